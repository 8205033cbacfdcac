"""One reader of values: what it wants to see, and what waits for it, bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from cloudcore import metrics
from cloudcore.samples import BlockQueue
from cloudcore.seams import SampleOrigin
from synccore.pb import values_pb2
from synccore.series import Readings, Series, Value

# What waits for one reader: half a million numbers. Full: the oldest blocks go, and the reader is told how many values.
MAX_WAITING_BYTES = 10 << 20
# Of one message: below gRPC's 4 MiB, also if every value is a text of 1 KiB with a name as long.
MAX_VALUES = 5_000
MAX_BATCH_BYTES = 1 << 20


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
        self._waiting = BlockQueue(MAX_WAITING_BYTES)
        self._missed = 0

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:  # noqa: ARG002
        """Keep a block until the reader has it."""
        if not any(self._wanted.has(series.device) for series in readings.names):
            return
        for dropped in self._waiting.put(readings):
            missed_count = self._wanted_count(dropped)
            metrics.values_dropped.labels("watch").inc(missed_count)
            self._missed += missed_count

    async def batches(self) -> Iterator[values_pb2.Batch]:
        """Wait for a block; return it as messages, each made when it is asked for."""
        await self._waiting.first()
        readings = self._waiting.pop()
        missed, self._missed = self._missed, 0
        return self._messages(readings, missed)

    def _wanted_count(self, readings: Readings) -> int:
        """Return how many of a block's values are wanted: of the others the reader must not even know."""
        counts = Counter(readings.series)
        return sum(n for p, n in counts.items() if self._wanted.has(readings.names[p].device))

    def _messages(self, readings: Readings, missed: int) -> Iterator[values_pb2.Batch]:
        seen = [self._wanted.has(series.device) for series in readings.names]
        rows = zip(readings.series, readings.times, readings.values, strict=True)
        wanted = ((readings.names[place], t, v) for place, t, v in rows if seen[place])
        return messages(wanted, missed)


def messages(
    rows: Iterable[tuple[Series, int, Value]], missed: int = 0
) -> Iterator[values_pb2.Batch]:
    """Yield values as messages of bounded size; the first one says how many were left out before it."""
    values: list[values_pb2.Value] = []
    size_bytes = 0
    for series, time_ms, value in rows:
        text_bytes = 3 * len(value) if isinstance(value, str) else 8
        size_bytes += 3 * (len(series.device) + len(series.property)) + text_bytes
        if values and (len(values) >= MAX_VALUES or size_bytes > MAX_BATCH_BYTES):
            yield values_pb2.Batch(values=values, missed=missed)
            values, missed, size_bytes = [], 0, 0
        values.append(to_wire(series, time_ms, value))
    if values or missed:
        yield values_pb2.Batch(values=values, missed=missed)


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
