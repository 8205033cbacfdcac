"""`SampleBuffer`: takes batches of typed values and hands the hub blocks of them.

Two ways. `put` keeps readings in memory: every one while the link keeps up, the newest of each series when it does
not, none after a restart. `put_durable` returns when they are on the disk: then the outbox has them, with its bounds
and its counted losses, until the cloud has taken them.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

from corekit.errors import EdgeError
from edgecore.records import SAMPLE_BLOCK, Commit, Report
from edgecore.samples.columns import WaitingColumns
from synccore.messages import BATCH_TARGET_BYTES, Lane, Op
from synccore.samples import BlockEncoder, check_readings
from synccore.series import MAX_NAME_BYTES, MAX_NAMES_BYTES, Series, Values

# Names stay known until the agent ends. 32,768 are ten times what one gateway was ever seen to have.
MAX_KNOWN_SERIES = 32_768
# Readings that wait in memory, 20 bytes each. Never below the number of series: coalesced, all must fit.
MAX_WAITING = MAX_KNOWN_SERIES
# What a reading takes in a block, its share of the names in it; a long text takes more.
READING_BYTES = 13
BLOCK_READINGS = BATCH_TARGET_BYTES // READING_BYTES


class SeriesLimitError(EdgeError):
    """A series cannot be known: too many are, or its name is too long."""

    def __init__(self, series: Series, problem: str) -> None:
        self.series, self.problem = series, problem
        super().__init__(f"{series.device[:80]} {series.property[:80]}: {problem}")


class CommitStore(Protocol):
    """What the buffer needs of metamanager."""

    async def commit(self, commit: Commit) -> None:
        """Return once durable. Raises: StoreError."""


class SampleBuffer:
    """Readings between those who make them and the hub. All on one event loop.

    Bounded: `MAX_WAITING` readings, and the blocks that the hub has in flight.
    """

    def __init__(self, store: CommitStore) -> None:
        self._store = store
        self._names: list[Series] = []
        self._numbers: dict[Series, int] = {}
        self._names_bytes = 0
        self._encoder = BlockEncoder(self._names)
        self._waiting = WaitingColumns()
        self._in_flight: deque[bytes] = (
            deque()
        )  # oldest first; the first `_again` of them go once more
        self._again = 0
        self._wake: Callable[[], None] = lambda: None
        self._room = asyncio.Event()
        self._room.set()
        self.overtaken_count = (
            0  # readings that a newer one of their series replaced before they were sent
        )

    @property
    def waiting_count(self) -> int:
        """Readings in memory that were not sent yet."""
        return len(self._waiting)

    def series(self, device: str, prop: str) -> int:
        """Return the number of a series, for `put`; the same whenever it is asked for.

        Raises:  SeriesLimitError.
        """
        series = Series(device, prop)
        number = self._numbers.get(series)
        if number is None:
            self._check_name(series)
            number = self._numbers[series] = len(self._names)
            self._names.append(series)
        return number

    def put(self, series: array[int], times: array[int], values: Values) -> None:
        """Take readings for the memory way; never waits.

        Shapes:  columns as in `synccore.series.Readings`; series: numbers that `series()` gave.
        Raises:  FrameError: a reading that cannot be sent; `offset` is its place. None of the batch is taken.
        """
        check_readings(series, times, values, len(self._names))
        for start in range(0, len(series), MAX_WAITING):
            part = slice(start, start + MAX_WAITING)
            self._waiting.append(series[part], times[part], values[part])
            if len(self._waiting) > MAX_WAITING:
                self.overtaken_count += self._waiting.coalesce(len(self._names))
        if len(self._waiting) > MAX_WAITING // 2:
            self._room.clear()
        self._wake()

    async def room(self) -> None:
        """Wait until half of the buffer is free: who puts no more than that at once loses no reading to a newer one."""
        await self._room.wait()

    async def put_durable(self, series: array[int], times: array[int], values: Values) -> None:
        """Return once the readings are on the disk; they are sent, and kept until the cloud has them.

        Raises:  FrameError: as `put`. StoreError.
        """
        reports = []
        for start in range(0, len(series), BLOCK_READINGS):
            part = slice(start, start + BLOCK_READINGS)
            block = self._encoder.encode(series[part], times[part], values[part])
            reports.append(Report(SAMPLE_BLOCK, "", block, Lane.SAMPLES, Op.APPEND))
        if reports:
            await self._store.commit(Commit(reports=reports))

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever there is something to send."""
        self._wake = wake

    def restart(self) -> None:
        """Begin a new stream: what the old one left unacknowledged is sent again, first."""
        self._again = len(self._in_flight)

    def next_block(self, max_bytes: int = BATCH_TARGET_BYTES) -> bytes | None:
        """Return the next block of the memory way to send, of about `max_bytes` at most, or None."""
        if self._again:
            block = self._in_flight[-self._again]
            self._again -= 1
            return block
        if not len(self._waiting):
            return None
        block = self._encoder.encode(*self._waiting.take(max(max_bytes // READING_BYTES, 1)))
        self._in_flight.append(block)
        if len(self._waiting) <= MAX_WAITING // 2:
            self._room.set()
        return block

    def acknowledged(self, count: int) -> None:
        """Forget the oldest `count` blocks in flight: the cloud has them."""
        for _ in range(count):
            self._in_flight.popleft()

    def _check_name(self, series: Series) -> None:
        if len(self._names) == MAX_KNOWN_SERIES:
            raise SeriesLimitError(
                series, f"is one more than the {MAX_KNOWN_SERIES} series allowed"
            )
        try:
            sizes = [len(part.encode()) for part in series]
        except UnicodeEncodeError as exc:
            raise SeriesLimitError(series, "name is not UTF-8") from exc
        if max(sizes) > MAX_NAME_BYTES:
            raise SeriesLimitError(series, f"name is longer than {MAX_NAME_BYTES} bytes")
        # So that the names of any block are below the limit of one.
        if self._names_bytes + sum(sizes) > MAX_NAMES_BYTES:
            raise SeriesLimitError(series, f"names of all series are above {MAX_NAMES_BYTES} bytes")
        self._names_bytes += sum(sizes)
