"""The component that keeps values: takes blocks without waiting, writes once a second, reads back in pages."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from cloudcore import metrics
from cloudcore.devicecontroller.seams import Cache
from cloudcore.history.columns import Column, joined, split
from cloudcore.history.errors import HistoryDamagedError, HistoryFullError
from cloudcore.history.policies import Policies
from cloudcore.history.store import Keep, ValueFile
from cloudcore.kube.resources import KubeObject
from cloudcore.samples import BlockQueue, SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import ValueSettings
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from synccore.messages import ObjectKey
from synccore.series import Readings, Series, Value

logger = logging.getLogger(__name__)

FILE = "values.db"
# Blocks that wait for the disk: some ten seconds at 200,000 values a second. Full: the oldest go, counted and said.
MAX_WAITING_BYTES = 48 << 20
# What a kill may cost: all of it becomes one commit.
COMMIT_S = 1.0
# A value a second becomes stretches of sixty.
SEAL_S = 60.0
# What is too old goes within this; what a deleted device left, with the next commit.
TIDY_S = 30.0
# Without a folder everything is in memory.
MAX_MEMORY_BYTES = 128 << 20

T = TypeVar("T")


class History:
    """`SampleSink` and component. What cannot be kept is counted and said; nothing of it slows a node down."""

    name = "history"

    def __init__(
        self,
        settings: ValueSettings,
        fanout: SampleFanout,
        *,
        devices: Cache,
        models: Cache,
        clock: Callable[[], float],
    ) -> None:
        """Shapes: clock: Unix seconds."""
        self._fanout = fanout
        self._path = Path(settings.history_dir) / FILE if settings.history_dir else None
        self._max_bytes = settings.history_max_bytes
        if self._path is None:
            self._max_bytes = min(self._max_bytes, MAX_MEMORY_BYTES)
        self._devices, self._clock = devices, clock
        self._policies = Policies(devices, models, clock)
        self._waiting = BlockQueue(MAX_WAITING_BYTES)
        # One: SQLite's connection is used by one thread, and reads take turns with writes.
        self._thread = ThreadPoolExecutor(1, "history")
        self._file: ValueFile | None = None
        self._tidy_soon = True
        self._deleted: list[str] = []  # since the last commit
        self._slow = RepeatedFault(logger, "history: the disk does not keep up, values dropped")
        self._fault = RepeatedFault(logger, f"history: {self._path or 'memory'}: not written")
        devices.subscribe(self)

    async def __aenter__(self) -> Self:
        """Open the file. Raises: ConfigError: the folder cannot be used."""
        await self._in_thread(self._open_first)
        self._fanout.subscribe(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Write what waits, and close."""
        self._fanout.unsubscribe(self)
        await self._write()
        await self._do(lambda file: file.seal(self._now_ms()))
        await self._in_thread(self._close)
        self._thread.shutdown(wait=False)

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:  # noqa: ARG002
        """Keep a block until it is written as far as it is to be kept; never waits."""
        if dropped_count := sum(map(len, self._waiting.put(readings))):
            metrics.history_dropped.labels("slow").inc(dropped_count)
            self._slow.failed(f"{dropped_count} just now")

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        sealed_s = tidied_s = loop.time()
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._write()
            self._slow.cleared()
            if loop.time() - sealed_s >= SEAL_S:
                await self._do(lambda file: file.seal(self._now_ms()))
                sealed_s = loop.time()
            if self._devices.synced and (self._tidy_soon or loop.time() - tidied_s >= TIDY_S):
                self._tidy_soon = False
                await self.tidy()
                tidied_s = loop.time()
            await self._do(self._make_room)

    async def tidy(self) -> None:
        """Drop what is too old, and what is of devices that are no more."""
        known = await self._do(lambda file: file.series) or []
        now_ms, keeps = self._now_ms(), dict[Series, Keep]()
        by_device: dict[str, list[Series]] = {}
        for series in known:
            by_device.setdefault(series.device, []).append(series)
        for device, its in by_device.items():
            policy = self._policies.current(device)
            for series in its:
                if seconds := policy.seconds.get(series.property, 0):
                    keeps[series] = Keep(policy.uid, now_ms - seconds * 1000)
            await asyncio.sleep(0)  # ten thousand devices are not looked up in one go
        await self._do(lambda file: file.tidy(known, keeps))

    async def read(
        self,
        device: str,
        prop: str,
        *,
        since_ms: int = 0,
        until_ms: int = 0,
        newest_count: int = 0,
    ) -> AsyncIterator[list[tuple[int, Value]]]:
        """Yield what is kept of a property in pages, oldest first. Shapes: 0: without that end."""
        policy = self._policies.current(device)
        seconds = policy.seconds.get(prop, 0)
        if not seconds:
            return
        await self._write()
        since_ms = max(since_ms, int(self._now_ms()) - seconds * 1000)
        cursor = await self._do(
            lambda file: file.begin(
                Series(device, prop),
                policy.uid,
                since_ms=since_ms,
                until_ms=until_ms or (1 << 63) - 1,
                newest_count=newest_count,
            )
        )
        newest: deque[tuple[int, Value]] = deque(maxlen=newest_count or None)
        while cursor is not None:
            at = cursor
            column, cursor = await self._do(lambda file, at=at: file.page(at)) or (Column(), None)  # type: ignore[misc]
            rows = list(zip(column.times, column.values, strict=True))
            if newest_count:
                newest.extend(rows)
            elif rows:
                yield rows
        if newest:
            yield list(newest)

    # `InformerHandler`: what devices are deleted.

    def on_upsert(self, _obj: KubeObject) -> None:
        """Wait: each write of its status comes here, and what it says of history is read again every few seconds."""

    def on_delete(self, key: ObjectKey) -> None:
        """Drop what is kept of it with the next commit."""
        self._deleted.append(f"{key.namespace}/{key.name}")
        self._tidy_soon = True

    def on_synced(self) -> None:
        """Drop what is kept of devices that went while this process was not there."""
        self._tidy_soon = True

    async def _write(self) -> None:
        """Write all that waits."""
        blocks = [self._waiting.pop() for _ in range(len(self._waiting))]
        if not blocks:
            return
        deleted, self._deleted = self._deleted, []
        await self._do(lambda file: self._add(file, blocks, deleted))

    def _add(self, file: ValueFile, blocks: list[Readings], deleted: list[str]) -> None:
        """Split blocks and store them; in the thread, with what devices say: ten thousand take their time."""
        for device in deleted:
            self._policies.forget(device)
        columns: list[tuple[Series, str, Column]] = []
        for readings in joined(blocks):
            uids = self._policies.uids(readings.names)
            if any(uids):
                uid_of = dict(zip(readings.names, uids, strict=True))
                found = split(readings, uids).items()
                columns += [(series, uid_of[series], column) for series, column in found]
        if not columns:
            return
        metrics.history_values.inc(sum(len(column) for _, _, column in columns))
        try:
            file.add(columns, self._now_ms())
            self._fault.cleared()
        finally:
            self._count_given_up(file)

    def _make_room(self, file: ValueFile) -> None:
        if given_up_count := file.make_room():
            metrics.history_dropped.labels("full").inc(given_up_count)
        metrics.history_bytes.set(file.used_bytes)

    def _count_given_up(self, file: ValueFile) -> None:
        if file.given_up_count:
            metrics.history_dropped.labels("disk").inc(file.given_up_count)
            file.given_up_count = 0

    def _now_ms(self) -> float:
        return self._clock() * 1000

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # Shielded: what is begun is finished, also if the component is being stopped.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _do(self, work: Callable[[ValueFile], T]) -> T | None:
        """Return what `work` makes of the file; None: it could not, which is said."""
        return await self._in_thread(lambda: self._guarded(work))

    def _guarded(self, work: Callable[[ValueFile], T]) -> T | None:
        try:
            if self._file is None:
                self._file = self._open()
            return work(self._file)
        except HistoryDamagedError as exc:
            self._set_aside(exc)
        except HistoryFullError as exc:
            self._fault.failed(f"{exc}; the values stay in memory for a while")
        except OSError as exc:
            self._fault.failed(exc.strerror)
        return None

    def _open_first(self) -> None:
        try:
            self._file = self._open()
        except HistoryDamagedError as exc:
            self._set_aside(exc)
        except (HistoryFullError, OSError) as exc:
            problem = exc.strerror if isinstance(exc, OSError) else exc
            raise ConfigError(SETTINGS, "values.history_dir", f"{self._path}: {problem}") from exc

    def _open(self) -> ValueFile:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path.touch(mode=0o600)
        return ValueFile(self._path, self._max_bytes)

    def _set_aside(self, problem: HistoryDamagedError) -> None:
        """Begin anew; the damaged file stays beside it, the last one only."""
        self._close()
        if self._path is None:
            return
        aside = self._path.with_name(f"{FILE}.damaged")
        logger.warning(
            "history: %s: %s: moved to %s, history begins anew", self._path, problem, aside
        )
        try:
            for suffix in ("-wal", "-shm"):
                aside.with_name(aside.name + suffix).unlink(missing_ok=True)
                found = self._path.with_name(FILE + suffix)
                if found.exists():
                    found.replace(aside.with_name(aside.name + suffix))
            self._path.replace(aside)
            self._file = self._open()
        except (HistoryDamagedError, HistoryFullError, OSError) as exc:
            self._fault.failed(exc)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
