"""Who gets the readings that nodes send at rate: every subscriber, and a counter."""

from __future__ import annotations

from cloudcore import metrics
from cloudcore.seams import SampleOrigin, SampleSink
from synccore.series import Readings


class SampleFanout:
    """`SampleSink` that counts and hands each block to every subscriber, one after the other.

    A subscriber that must not slow the nodes down keeps what it is given and returns at once.
    """

    def __init__(self) -> None:
        self._subscribers: list[SampleSink] = []

    def subscribe(self, subscriber: SampleSink) -> None:
        """Hand `subscriber` every block from now on."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: SampleSink) -> None:
        """Hand it no more."""
        self._subscribers.remove(subscriber)

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:
        """Return when every subscriber has the readings."""
        metrics.sample_blocks.inc()
        metrics.samples.inc(len(readings))
        for subscriber in tuple(self._subscribers):
            await subscriber.take(origin, readings)
