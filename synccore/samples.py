"""Blocks of readings: how the edge sends values that come at rate, hundreds of thousands a second.

A block explains itself: it carries the names of its series, so it can be stored, sent twice, or read by
somebody else. The loops over readings are compiled, or their Python twin if SYNCCORE_PUREPY=1 asks for it.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Generic, TypeVar

from synccore.errors import FrameError
from synccore.series import BLOCK_FORMAT, Block, Readings, Series, Value, Values

if os.environ.get("SYNCCORE_PUREPY") == "1":
    from synccore._samples_py import (
        check_readings,
        coalesce_readings,
        compact_series,
        decode_names,
        decode_readings,
        encode_names,
        encode_readings,
    )
else:  # no silent fallback: a missing extension is a broken install, not a slow one
    from synccore._samples import (
        check_readings,
        coalesce_readings,
        compact_series,
        decode_names,
        decode_readings,
        encode_names,
        encode_readings,
    )

__all__ = [
    "BlockDecoder",
    "BlockEncoder",
    "check_readings",
    "coalesce",
    "coalesce_readings",
    "compact_series",
    "decode_names",
    "decode_readings",
    "encode_names",
    "encode_readings",
    "is_block",
    "newest",
    "with_sequence",
]

# Format, sequence (0: not durable at the edge), bytes of the names.
_HEADER = Struct("<BQI")
# Producers alternate between a few sets of series; each may have a megabyte of names.
_KEPT_NAMES = 4
T = TypeVar("T")


class BlockEncoder:
    """Makes blocks of readings of a growing list of series; names that occur again are encoded once."""

    def __init__(self, names: Sequence[Series]) -> None:
        self._names = names  # the caller's list; it may grow, but not change
        self._encoded = _Kept[bytes]()

    def encode(self, series: array[int], times: array[int], values: Values) -> bytes:
        """Return the readings as a block with sequence 0; `series` are places in the list of names.

        Raises:  FrameError: something is outside the limits; `offset` is its place.
        """
        used, local = compact_series(series, len(self._names))
        names = self._encoded.get(
            used.tobytes(), lambda: encode_names([self._names[n] for n in used])
        )
        readings = encode_readings(local, times, values, len(used))
        return _HEADER.pack(BLOCK_FORMAT, 0, len(names)) + names + readings


class BlockDecoder:
    """Reads blocks of one peer; names that occur again are decoded once."""

    def __init__(self) -> None:
        self._decoded = _Kept[list[Series]]()

    def decode(self, block: bytes) -> Block:
        """Return what a block holds.

        Raises:  FrameError: `offset` is where the first bad part starts.
        """
        if not is_block(block):
            raise FrameError("unknown batch format", 0)
        if len(block) < _HEADER.size:
            raise FrameError("block is cut", 0)
        _, sequence, names_bytes = _HEADER.unpack_from(block)
        if names_bytes > len(block) - _HEADER.size:
            raise FrameError("block is cut", 0)
        end = _HEADER.size + names_bytes
        encoded = block[_HEADER.size : end]
        names = self._decoded.get(encoded, lambda: decode_names(block, _HEADER.size, end))
        return Block(sequence, Readings(names, *decode_readings(block, end, len(names))))


def is_block(batch: bytes) -> bool:
    """Tell whether a frame's batch is a block of readings, by its first byte."""
    return batch[:1] == bytes([BLOCK_FORMAT])


def with_sequence(block: bytes, sequence: int) -> bytes:
    """Return `block` with another sequence."""
    _, _, names_bytes = _HEADER.unpack_from(block)
    return _HEADER.pack(BLOCK_FORMAT, sequence, names_bytes) + block[_HEADER.size :]


def coalesce(readings: Readings) -> Readings:
    """Return the newest reading of each series; of equal times the last one."""
    names = readings.names
    columns = coalesce_readings(readings.series, readings.times, readings.values, len(names))
    return Readings(names, *columns)


def newest(readings: Readings) -> dict[Series, tuple[int, Value]]:
    """Return (time, value) by series: the newest, of equal times the last one."""
    found = coalesce(readings)
    pairs = zip(found.times, found.values, strict=True)
    return dict(zip(map(found.names.__getitem__, found.series), pairs, strict=True))


class _Kept(Generic[T]):
    """The last few things made, by what they were made of."""

    def __init__(self) -> None:
        self._kept: dict[bytes, T] = {}

    def get(self, key: bytes, make: Callable[[], T]) -> T:
        """Return the thing kept for `key`, or make it."""
        if (found := self._kept.get(key)) is None:
            found = make()
            if len(self._kept) >= _KEPT_NAMES:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return found
