"""Who gets the readings that nodes send at rate: every subscriber, and a counter."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from itertools import compress
from typing import cast

from cloudcore import metrics
from cloudcore.seams import SampleOrigin, SampleSink
from synccore.series import PRESENCE, Readings


class SampleFanout:
    """`SampleSink` that counts and hands each block to every subscriber, one after the other.

    A subscriber that must not slow the nodes down keeps what it is given and returns at once.
    """

    def __init__(self, note: Callable[[Readings], None] = lambda _: None) -> None:
        """Shapes: note: is given every block first, signs of life included."""
        self._subscribers: list[SampleSink] = []
        self._note = note

    def subscribe(self, subscriber: SampleSink) -> None:
        """Hand `subscriber` every block from now on."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: SampleSink) -> None:
        """Hand it no more."""
        self._subscribers.remove(subscriber)

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:
        """Return when every subscriber has the readings; signs of life are kept from them."""
        self._note(readings)
        readings = without_presence(readings)
        if not len(readings):
            return
        metrics.sample_blocks.inc()
        metrics.samples.inc(len(readings))
        for subscriber in tuple(self._subscribers):
            await subscriber.take(origin, readings)


class BlockQueue:
    """Blocks that wait for somebody who may be slow, bounded by what they take in memory; full: the oldest go."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._blocks: deque[tuple[Readings, int]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, readings: Readings) -> list[Readings]:
        """Add a block; return those that had to go for it. Never waits."""
        dropped = []
        size_bytes = _size_bytes(readings)
        while self._blocks and self._bytes + size_bytes > self._max_bytes:
            dropped.append(self.pop())
        self._blocks.append((readings, size_bytes))
        self._bytes += size_bytes
        self._filled.set()
        return dropped

    async def first(self) -> Readings:
        """Wait for a block and return the oldest; it stays."""
        while not self._blocks:
            self._filled.clear()
            await self._filled.wait()
        return self._blocks[0][0]

    def done(self, readings: Readings) -> None:
        """Remove the block that `first` gave, if it has not gone meanwhile."""
        if self._blocks and self._blocks[0][0] is readings:
            self.pop()

    def pop(self) -> Readings:
        """Remove and return the oldest block; there must be one."""
        readings, size_bytes = self._blocks.popleft()
        self._bytes -= size_bytes
        return readings


# A place, a time, and a number or a reference; what Python makes of a number or text itself.
_COLUMN_BYTES, _OBJECT_BYTES = 20, 32


def _size_bytes(readings: Readings) -> int:
    size_bytes = _COLUMN_BYTES * len(readings)
    if not isinstance(readings.values, array):
        size_bytes += sum(
            _OBJECT_BYTES + (len(value) if isinstance(value, str) else 0)
            for value in readings.values
        )
    return size_bytes


def without_presence(readings: Readings) -> Readings:
    """Return the readings that are values; the same object if all are."""
    is_value = [name.property != PRESENCE for name in readings.names]
    if all(is_value):
        return readings
    kept = [is_value[place] for place in readings.series]
    values = readings.values
    left = compress(values, kept)
    return Readings(
        readings.names,
        array("I", compress(readings.series, kept)),
        array("q", compress(readings.times, kept)),
        array("d", cast("Iterable[float]", left)) if isinstance(values, array) else list(left),
    )
