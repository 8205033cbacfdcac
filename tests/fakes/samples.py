"""A subscriber to readings that remembers them, and can be made to wait."""

from __future__ import annotations

import asyncio
from collections import Counter


class FakeSamples:
    """`SampleSink` that keeps every block it took."""

    def __init__(self):
        self.blocks = []
        self.open = asyncio.Event()
        self.open.set()

    async def take(self, origin, readings):
        await self.open.wait()
        self.blocks.append((origin, readings))

    @property
    def taken(self):
        """How often each (series, time, value) was taken."""
        found = Counter()
        for _, readings in self.blocks:
            for number, time_ms, value in zip(
                readings.series, readings.times, readings.values, strict=True
            ):
                found[readings.names[number], time_ms, value] += 1
        return found
