"""What waits to be told to edgecore: readings in order, and of acknowledged values and states the newest. Pure."""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field

from devicemodels.pb import readings_pb2

# Readings that wait; then of each property the newest only. Three seconds of a mapper that is as fast as Python.
MAX_WAITING = 65_536
# One message: far below gRPC's 4 MiB, even if every value is a text of a few hundred bytes.
MAX_BATCH = 4_096
MAX_BATCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Observed:
    """A desired value that the device has taken, or, with `error`, has refused."""

    value: str
    error: str = ""


@dataclass(slots=True)
class _Row:
    series: tuple[str, str]
    time_ms: int
    text: str


@dataclass
class Outbox:
    """Bounded. Shapes: a device is "namespace/name"; values are texts as on every other wire.

    `overtaken_count`: readings that a newer one of their property replaced before they were sent.
    """

    overtaken_count: int = 0
    observed: dict[str, dict[str, Observed]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    _rows: list[_Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._rows or self.observed or self.states)

    @property
    def reading_count(self) -> int:
        """Readings that wait."""
        return len(self._rows)

    def read(self, device: str, prop: str, text: str, time_ms: int) -> None:
        """Add a reading."""
        self._rows.append(_Row((device, prop), time_ms, text))
        if len(self._rows) > MAX_WAITING:
            self._keep_newest()

    def take_readings(self) -> list[tuple[str, str, int, str]]:
        """Remove and return the oldest readings, about a message full: device, property, time, text."""
        size_bytes = count = 0
        for row in self._rows[:MAX_BATCH]:
            size_bytes += len(row.text)
            if count and size_bytes > MAX_BATCH_BYTES:
                break
            count += 1
        taken, self._rows = self._rows[:count], self._rows[count:]
        return [(*row.series, row.time_ms, row.text) for row in taken]

    def put_back(self, readings: list[tuple[str, str, int, str]]) -> None:
        """Let readings that could not be sent wait again, before all others."""
        self._rows[:0] = [_Row((d, p), time_ms, text) for d, p, time_ms, text in readings]
        if len(self._rows) > MAX_WAITING:
            self._keep_newest()

    def forget(self, device: str) -> None:
        """Drop what waits of a device that is no longer ours."""
        self.observed.pop(device, None)
        self.states.pop(device, None)
        self._rows = [row for row in self._rows if row.series[0] != device]

    def _keep_newest(self) -> None:
        newest = {row.series: row for row in self._rows}
        self.overtaken_count += len(self._rows) - len(newest)
        # Should every property have one, the oldest go: a mapper with so many needs more than one process.
        kept = sorted(newest.values(), key=lambda row: row.time_ms)[-MAX_WAITING:]
        self.overtaken_count += len(newest) - len(kept)
        self._rows = kept


class BatchWriter:
    """Readings as messages of one stream: a series is named in the first message that has a value of it."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def encode(self, readings: list[tuple[str, str, int, str]]) -> readings_pb2.ReadingBatch:
        """Return the message. Shapes: readings: device, property, time in Unix ms, text."""
        named: list[tuple[str, str]] = []
        series, times, texts = array("I"), array("q"), []
        for device, prop, time_ms, text in readings:
            number = self._numbers.get((device, prop))
            if number is None:
                number = self._numbers[device, prop] = len(self._numbers)
                named.append((device, prop))
            series.append(number)
            times.append(time_ms)
            texts.append(text)
        return readings_pb2.ReadingBatch(
            named=[readings_pb2.Series(device=d, property=p) for d, p in named],
            series=_little(series),
            times_ms=_little(times),
            texts=texts,
        )


def _little(column: array[int]) -> bytes:
    return struct.pack(f"<{len(column)}{column.typecode}", *column)
