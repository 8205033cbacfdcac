"""Who gets the readings that nodes send at rate: every subscriber, and a counter."""

from __future__ import annotations

from cloudcore import metrics
from cloudcore.seams import SampleOrigin, SampleSink
from cloudcore.valuestream.seen import LastSeen, without_presence
from synccore.series import Readings


class SampleFanout:
    """`SampleSink` that counts and hands each block to every subscriber, one after the other.

    A subscriber that must not slow the nodes down keeps what it is given and returns at once.
    """

    def __init__(self, seen: LastSeen | None = None) -> None:
        self._subscribers: list[SampleSink] = []
        self._seen = seen

    def subscribe(self, subscriber: SampleSink) -> None:
        """Hand `subscriber` every block from now on."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: SampleSink) -> None:
        """Hand it no more."""
        self._subscribers.remove(subscriber)

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:
        """Return when every subscriber has the readings; signs of life are kept from them."""
        if self._seen is not None:
            self._seen.note(readings)
        readings = without_presence(readings)
        if not len(readings):
            return
        metrics.sample_blocks.inc()
        metrics.samples.inc(len(readings))
        for subscriber in tuple(self._subscribers):
            await subscriber.take(origin, readings)
