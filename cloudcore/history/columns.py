"""Readings by series, as columns that grow, and the bytes that a stretch of a column is stored as. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from zlib import crc32

from synccore.errors import FrameError
from synccore.samples import BlockDecoder, BlockEncoder, decode_readings, encode_readings
from synccore.series import MAX_NAMES_BYTES, MAX_READINGS, Readings, Series, Value

# Values of one stored stretch: what is read, and decoded, at a time. Most are far shorter.
MAX_STRETCH = 4_096
# Sorting so many takes ten milliseconds, in which nothing else runs.
MAX_JOINED = 50_000
_CRC_BYTES = 4


@dataclass(slots=True)
class Column:
    """Values of one series. Shapes: equal lengths; times: Unix milliseconds, in the order they came."""

    times: array[int] = field(default_factory=lambda: array("q"))
    values: list[Value] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    def copy(self) -> Column:
        """Return another column of the same values."""
        return Column(self.times[:], list(self.values))

    def extend(self, other: Column) -> None:
        """Append another column."""
        self.times.extend(other.times)
        self.values.extend(other.values)

    def ordered(self) -> Column:
        """Return the column by time; of equal times in the order they came."""
        if all(map(int.__le__, self.times, self.times[1:])):
            return self
        order = sorted(range(len(self)), key=self.times.__getitem__)
        return Column(array("q", [self.times[n] for n in order]), [self.values[n] for n in order])

    def between(self, least_ms: float, most_ms: float) -> Column:
        """Return the part of an ordered column that is neither older nor newer."""
        start = bisect_left(self.times, least_ms)
        end = bisect_right(self.times, most_ms)
        if start == 0 and end == len(self):
            return self
        return Column(self.times[start:end], self.values[start:end])

    def stretches(self) -> Iterator[Column]:
        """Yield it in parts that are stored as one each."""
        for start in range(0, len(self), MAX_STRETCH):
            end = start + MAX_STRETCH
            yield Column(self.times[start:end], self.values[start:end])


def joined(blocks: Iterable[Readings]) -> Iterator[Readings]:
    """Yield blocks of the same names as one: a node's blocks of one moment, so that each series is touched once."""
    waiting: dict[int, list[Readings]] = {}
    counts: Counter[int] = Counter()
    for block in blocks:
        place = id(block.names)
        if counts[place] + len(block) > MAX_JOINED:
            yield _one(waiting.pop(place, []))
            del counts[place]
        waiting.setdefault(place, []).append(block)
        counts[place] += len(block)
    yield from map(_one, waiting.values())


def _one(blocks: list[Readings]) -> Readings:
    if len(blocks) == 1:
        return blocks[0]
    series, times, values = array("I"), array("q"), list[Value]()
    for block in blocks:
        series.extend(block.series)
        times.extend(block.times)
        values.extend(block.values)
    return Readings(blocks[0].names if blocks else (), series, times, values)


def split(readings: Readings, kept: Sequence[object]) -> dict[Series, Column]:
    """Return a column for each series that is kept. Shapes: kept: true or false by place in the block's names.

    No step of Python for a value: a node sends hundreds of thousands a second.
    """
    count = len(readings)
    if not count:
        return {}
    if len(readings.names) == 1:
        whole = Column(array("q", readings.times), list(readings.values))
        return {readings.names[0]: whole} if kept[0] else {}
    order = sorted(range(count), key=readings.series.__getitem__)  # stable: order in a series stays
    pick = itemgetter(*order) if count > 1 else lambda column: (column[order[0]],)
    times, values = array("q", pick(readings.times)), pick(readings.values)
    sizes = sorted(Counter(readings.series).items())
    ends = accumulate(size for _, size in sizes)
    return {
        readings.names[place]: Column(times[end - size : end], list(values[end - size : end]))
        for (place, size), end in zip(sizes, ends, strict=True)
        if kept[place]
    }


def pack_column(column: Column) -> bytes:
    """Return an ordered column of at most `MAX_STRETCH` values as bytes. Raises: FrameError."""
    return _sealed(
        encode_readings(array("I", bytes(4 * len(column))), column.times, column.values, 1)
    )


def unpack_column(content: bytes) -> Column:
    """Return what `pack_column` was given. Raises: FrameError: these are other bytes."""
    _, times, values = decode_readings(_opened(content), 0, 1)
    return Column(times, list(values))


def pack_journal(columns: Iterable[tuple[Series, Column]]) -> Iterator[bytes]:
    """Yield columns as blocks of readings, few of them: what came in one moment is one write."""
    names: list[Series] = []
    series, whole, names_bytes = array("I"), Column(), 0
    for name, column in columns:
        for part in column.stretches():
            size_bytes = 4 * (len(name.device) + len(name.property))
            if names and (
                len(whole) + len(part) > MAX_READINGS or names_bytes + size_bytes > MAX_NAMES_BYTES
            ):
                yield _sealed(BlockEncoder(names).encode(series, whole.times, whole.values))
                names, series, whole, names_bytes = [], array("I"), Column(), 0
            names_bytes += size_bytes
            series.extend([len(names)] * len(part))
            names.append(name)
            whole.extend(part)
    if names:
        yield _sealed(BlockEncoder(names).encode(series, whole.times, whole.values))


def unpack_journal(content: bytes) -> dict[Series, Column]:
    """Return one of the blocks of `pack_journal`. Raises: FrameError."""
    readings = BlockDecoder().decode(_opened(content)).readings
    found: dict[Series, Column] = {}
    places = [found.setdefault(name, Column()) for name in readings.names]
    for place, time_ms, value in zip(readings.series, readings.times, readings.values, strict=True):
        places[place].times.append(time_ms)
        places[place].values.append(value)
    return found


def _sealed(content: bytes) -> bytes:
    # SQLite has no checksum of its own: a bit that turned would come back as another temperature.
    return crc32(content).to_bytes(_CRC_BYTES, "little") + content


def _opened(content: bytes) -> bytes:
    body = content[_CRC_BYTES:]
    if content[:_CRC_BYTES] != crc32(body).to_bytes(_CRC_BYTES, "little"):
        raise FrameError("checksum differs", 0)
    return body
