"""A message of the stream of readings as columns, one a series; pure."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from devicemodels.pb import readings_pb2
from edgecore.eventbus.compact import MAX_TIME_MS

MAX_SERIES = 65_536  # of one stream


class Column(NamedTuple):
    """What a message has of one series, oldest first.

    Shapes:  device: "namespace/name"; values: all floats, or all texts as on every other wire.
    Units:   times_ms: Unix milliseconds.
    """

    device: str
    property: str
    times_ms: list[int]
    values: list[float] | list[str]


class SeriesNames:
    """The series that one stream has named, and its messages by them."""

    def __init__(self) -> None:
        self._names: list[tuple[str, str]] = []

    def columns(self, batch: readings_pb2.ReadingBatch) -> list[Column]:
        """Return the columns of a message. Raises: ValueError: saying what is wrong with it."""
        if len(self._names) + len(batch.named) > MAX_SERIES:
            raise ValueError(f"more than {MAX_SERIES} series in one stream")
        self._names += [(one.device, one.property) for one in batch.named]
        numbers = _column("series", "I", batch.series)
        times = _column("times_ms", "q", batch.times_ms)
        values: Sequence[float] | Sequence[str] = batch.texts or _column(
            "numbers", "d", batch.numbers
        )
        if not len(numbers) == len(times) == len(values):
            raise ValueError(
                f"columns differ: {len(numbers)} series, {len(times)} times, {len(values)} values"
            )
        if not numbers:
            return []
        if (most := max(numbers)) >= len(self._names):
            raise ValueError(f"series {most} was not named: there are {len(self._names)}")
        if min(times) < 0 or max(times) >= MAX_TIME_MS:
            raise ValueError(f"a time is outside 0 to {MAX_TIME_MS - 1}")
        return self._split(numbers, times, values)

    def _split(
        self,
        numbers: Sequence[int],
        times: Sequence[int],
        values: Sequence[float] | Sequence[str],
    ) -> list[Column]:
        """Return columns in the order of their first value; the one loop over single values there is."""
        found: dict[int, Column] = {}
        for number, time_ms, value in zip(numbers, times, values, strict=True):
            column = found.get(number)
            if column is None:
                column = found[number] = Column(*self._names[number], [], [])
            column[2].append(time_ms)
            column[3].append(value)  # type: ignore[arg-type]  # a message has either kind
        return list(found.values())


def _column(name: str, code: str, raw: bytes) -> array[Any]:
    items: array[Any] = array(code)
    if len(raw) % items.itemsize:
        raise ValueError(f"{name}: {len(raw)} bytes are no multiple of {items.itemsize}")
    items.frombytes(raw)
    return items
