"""What waits to be told to edgecore: readings in order, and of acknowledged values and states the newest. Pure."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from devicemodels.pb import readings_pb2

# Readings that wait; then of each property the newest only. Three seconds of a mapper that is as fast as Python.
MAX_WAITING = 65_536
# One message: far below gRPC's 4 MiB, even if every value is a text of a few hundred bytes.
MAX_BATCH = 4_096
MAX_BATCH_BYTES = 1 << 20
MAX_COUNT = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Observed:
    """A desired value that the device has taken, or, with `error`, has refused."""

    value: str
    error: str = ""


class Reading(NamedTuple):
    """One value, on its way. Shapes: value: a number where the property's type is one, else its text."""

    device: str
    property: str
    time_ms: int
    value: float | str


@dataclass
class Outbox:
    """Bounded. Shapes: a device is "namespace/name".

    `overtaken_count`: readings that a newer one of their property replaced before they were sent; `untold_count`:
    those that edgecore has not been told of.
    """

    overtaken_count: int = 0
    untold_count: int = 0
    observed: dict[str, dict[str, Observed]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    _rows: list[Reading] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._rows or self.observed or self.states)

    @property
    def reading_count(self) -> int:
        """Readings that wait."""
        return len(self._rows)

    def read(self, device: str, prop: str, value: float | str, time_ms: int) -> None:
        """Add a reading."""
        self._rows.append(Reading(device, prop, time_ms, value))
        if len(self._rows) > MAX_WAITING:
            self._keep_newest()

    def take_readings(self) -> list[Reading]:
        """Remove and return the oldest readings, about a message full: all numbers, or all texts."""
        taken, self._rows = self._rows[:MAX_BATCH], self._rows[MAX_BATCH:]
        if not {float}.issuperset({type(row.value) for row in taken}):
            taken, left = _of_one_kind(taken)
            self._rows[:0] = left
        return taken

    def put_back(self, readings: list[Reading]) -> None:
        """Let readings that could not be sent wait again, before all others."""
        self._rows[:0] = readings
        if len(self._rows) > MAX_WAITING:
            self._keep_newest()

    def forget(self, device: str) -> None:
        """Drop what waits of a device that is no longer ours."""
        self.observed.pop(device, None)
        self.states.pop(device, None)
        self._rows = [row for row in self._rows if row.device != device]

    def _keep_newest(self) -> None:
        newest = {row[:2]: row for row in self._rows}
        # Should every property have one, the oldest go: a mapper with so many needs more than one process.
        kept = sorted(newest.values(), key=lambda row: row.time_ms)[-MAX_WAITING:]
        self.overtaken_count += len(self._rows) - len(kept)
        self.untold_count += len(self._rows) - len(kept)
        self._rows = kept


def _of_one_kind(rows: list[Reading]) -> tuple[list[Reading], list[Reading]]:
    """Return the readings that go in one message, and the others: a message has numbers or texts.

    A property whose readings are of both kinds keeps their order.
    """
    kind, size_bytes = type(rows[0].value), 0
    taken: list[Reading] = []
    left: list[Reading] = []
    behind: set[tuple[str, str]] = set()
    for row in rows:
        if isinstance(row.value, str):
            size_bytes += len(row.value)
        too_much = bool(taken) and size_bytes > MAX_BATCH_BYTES
        if type(row.value) is not kind or row[:2] in behind or too_much:
            left.append(row)
            behind.add(row[:2])
        else:
            taken.append(row)
    return taken, left


class BatchWriter:
    """Readings as messages of one stream: a series is named in the first message that has a value of it."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def encode(
        self, readings: Sequence[Reading], overtaken_count: int = 0
    ) -> readings_pb2.ReadingBatch:
        """Return the message. Shapes: readings: all numbers, or all texts; the count: since the last message."""
        devices, props, times, values = zip(*readings, strict=True)
        keys = list(zip(devices, props, strict=True))
        named = [key for key in dict.fromkeys(keys) if key not in self._numbers]
        for key in named:
            self._numbers[key] = len(self._numbers)
        batch = readings_pb2.ReadingBatch(
            named=[readings_pb2.Series(device=d, property=p) for d, p in named],
            series=_little(array("I", map(self._numbers.__getitem__, keys))),
            times_ms=_little(array("q", times)),
            overtaken=min(overtaken_count, MAX_COUNT),
        )
        if isinstance(values[0], float):
            batch.numbers = _little(array("d", values))
        else:
            batch.texts.extend(values)
        return batch


def _little(column: array[int] | array[float]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
