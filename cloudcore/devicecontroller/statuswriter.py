"""Writes what nodes report of devices, newest per device, at most once per device and interval."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Self

from cloudcore import metrics
from cloudcore.devicecontroller.rate import WriteRate
from cloudcore.devicecontroller.reports import (
    RefusedReportError,
    Verdict,
    after_error,
    check_reporter,
    status_patch,
)
from cloudcore.devicecontroller.seams import Cache, DeviceApi
from cloudcore.kube.client import MERGE_PATCH
from cloudcore.kube.errors import KubeNotFoundError
from cloudcore.kube.resources import DEVICES, KubeObject, read_object
from cloudcore.settings import DeviceSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from synccore.messages import Delta, ObjectKey

logger = logging.getLogger(__name__)

FIELD_MANAGER = "armadillo-devicecontroller"
# Requests under way: enough to fill a round trip of 20 ms with 400 writes a second, the most one API takes.
MAX_CONCURRENT_WRITES = 8
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0


@dataclass
class _Waiting:
    """The newest report of a device, and everyone whose report it stands for."""

    node: str
    delta: Delta
    done: list[asyncio.Future[None]] = field(default_factory=list)


class StatusWriter:
    """A `ReportSink` for devices. Memory is bounded by the devices there are, whatever the rate of reports."""

    name = "device-status"

    def __init__(self, api: DeviceApi, devices: Cache, settings: DeviceSettings) -> None:
        self._api, self._devices = api, devices
        self._interval_s = settings.status_interval_s
        self._waiting: dict[ObjectKey, _Waiting] = {}
        self._busy: set[ObjectKey] = set()
        self._due = asyncio.Event()
        self._ready: list[ObjectKey] = []
        self._rate = WriteRate()
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_WRITES)
        self._fault = RepeatedFault(logger, "device status cannot be written")

    async def __aenter__(self) -> Self:
        """Take nothing."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing; reports not yet written stay unacknowledged at their nodes."""

    async def write(self, node: str, delta: Delta) -> None:
        """Return when a write that contains `delta` is done, or never can be (said in the log)."""
        done = asyncio.get_running_loop().create_future()
        held = self._waiting.get(delta.key)
        earlier = held.done if held else []
        self._waiting[delta.key] = _Waiting(
            node, delta, [*(f for f in earlier if not f.done()), done]
        )
        if delta.key not in self._busy:
            self._busy.add(delta.key)
            self._ready.append(delta.key)
            self._due.set()
        await done

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._due.wait()
                self._due.clear()
                ready, self._ready = self._ready, []
                for key in ready:
                    group.create_task(self._serve(key), name=f"status of {key}")

    async def _serve(self, key: ObjectKey) -> None:
        """Write reports of one device until there are none; the interval passes before it is free again."""
        while (waiting := self._waiting.get(key)) is not None:
            await self._settle(key)
            logger.debug("status of %s written for node %s", key, waiting.node)
            await asyncio.sleep(self._interval_s)
        self._busy.discard(key)

    async def _settle(self, key: ObjectKey) -> None:
        """Write the newest report, retrying what may pass; whatever came in meanwhile replaces it."""
        backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        while True:
            async with self._slots:
                taken = self._waiting.pop(key)
                try:
                    delay_s = await self._try(taken, backoff)
                except BaseException:
                    self._give_back(key, taken)
                    raise
            if delay_s is None:
                for future in taken.done:
                    if not future.done():  # its stream may have ended meanwhile
                        future.set_result(None)
                return
            self._give_back(key, taken)
            await asyncio.sleep(delay_s)

    def _give_back(self, key: ObjectKey, taken: _Waiting) -> None:
        newer = self._waiting.get(key)
        if newer is None:
            self._waiting[key] = taken
        else:
            newer.done[:0] = taken.done

    async def _try(self, taken: _Waiting, backoff: Backoff) -> float | None:
        """Make one attempt; return the delay before the next, or None if this report is settled."""
        delta = taken.delta
        try:
            obj = self._devices.get(delta.key)
            if obj is None or obj.uid != delta.uid:
                obj = await self._read(delta.key)  # the cache may be behind the node
            check_reporter(obj, delta.uid, taken.node)
            path = DEVICES.path(delta.key, "status") + f"?fieldManager={FIELD_MANAGER}"
            await self._write(path, status_patch(delta.uid, delta.body))
        except (RefusedReportError, ValueError) as exc:
            logger.warning("report of %s dropped: %s", delta.key, exc, extra={"node": taken.node})
            return None
        except KubeApiError as exc:
            return self._judge(taken, exc, backoff)
        self._fault.cleared()
        return None

    async def _write(self, path: str, patch: bytes) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rate.delay_s(loop.time()))
        begun_s = loop.time()
        try:
            await self._api.patch(path, patch, content_type=MERGE_PATCH)
        except KubeApiError as exc:
            if exc.retryable:
                self._rate.refused(loop.time())
            raise
        self._rate.answered(loop.time() - begun_s, loop.time())
        metrics.device_writes.labels("twins").inc()
        metrics.device_write_rate.set(self._rate.per_s)

    def _judge(self, taken: _Waiting, exc: KubeApiError, backoff: Backoff) -> float | None:
        verdict = after_error(exc)
        if verdict is Verdict.DROP:
            level = logging.INFO if isinstance(exc, KubeNotFoundError) else logging.WARNING
            fields = {"node": taken.node, "change_id": taken.delta.change_id}
            logger.log(level, "report of %s dropped: %s", taken.delta.key, exc, extra=fields)
            return None
        if verdict is Verdict.RETRY:
            self._fault.failed(exc)
        return max(exc.retry_after_s or 0.0, backoff.next_delay_s())

    async def _read(self, key: ObjectKey) -> KubeObject:
        return read_object("Device", await self._api.get(DEVICES.path(key)))
