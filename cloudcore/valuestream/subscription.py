"""One reader of values: what it wants to see, and what waits for it, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from cloudcore.seams import SampleOrigin
from synccore.pb import values_pb2
from synccore.series import Readings, Series, Value

# Blocks that wait for one reader, some thousand values each. Full: the oldest goes, and the reader is told how many.
MAX_WAITING = 64
# Of one message: far below gRPC's 4 MiB.
MAX_VALUES = 5_000


class Wanted:
    """Which devices: by name, by namespace ("namespace/"), or all ("/")."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._names = frozenset(devices)
        self._all = "/" in self._names

    def has(self, device: str) -> bool:
        """Tell whether a device's values are wanted."""
        return self._all or device in self._names or f"{device.partition('/')[0]}/" in self._names


class Subscription:
    """`SampleSink` for one reader; taking never waits."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._waiting: deque[Readings] = deque()
        self._missed = 0
        self._filled = asyncio.Event()

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:  # noqa: ARG002
        """Keep a block until the reader has it."""
        if not any(self._wanted.has(series.device) for series in readings.names):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._missed += len(self._waiting.popleft())
        self._waiting.append(readings)
        self._filled.set()

    async def batches(self) -> list[values_pb2.Batch]:
        """Wait for values; return what came in."""
        await self._filled.wait()
        self._filled.clear()
        found: list[values_pb2.Value] = []
        while self._waiting:
            found += self._seen(self._waiting.popleft())
        missed, self._missed = self._missed, 0
        made = [
            values_pb2.Batch(values=found[start : start + MAX_VALUES])
            for start in range(0, len(found), MAX_VALUES)
        ]
        if missed:
            made = made or [values_pb2.Batch()]
            made[0].missed = missed
        return made

    def _seen(self, readings: Readings) -> list[values_pb2.Value]:
        seen = [self._wanted.has(series.device) for series in readings.names]
        rows = zip(readings.series, readings.times, readings.values, strict=True)
        return [to_wire(readings.names[p], t, v) for p, t, v in rows if seen[p]]


def to_wire(series: Series, time_ms: int, value: Value) -> values_pb2.Value:
    """Return one value as a message."""
    device, prop = series
    if isinstance(value, bool):
        return values_pb2.Value(device=device, property=prop, time_ms=time_ms, flag=value)
    if isinstance(value, int):
        return values_pb2.Value(device=device, property=prop, time_ms=time_ms, integer=value)
    if isinstance(value, float):
        return values_pb2.Value(device=device, property=prop, time_ms=time_ms, number=value)
    return values_pb2.Value(device=device, property=prop, time_ms=time_ms, text=value)
