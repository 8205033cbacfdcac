"""The `StatsProvider`: readings on demand, shared by whoever asks within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.exposition import cadvisor_metrics, resource_metrics
from edgecore.edged.stats.samples import Snapshot
from edgecore.edged.stats.summary import summary_of

KEEP_S = 1.0  # a scrape of three pages at once costs one reading


class NodeStats:
    """Stats of this node; implements `StatsProvider`."""

    def __init__(
        self,
        collector: Collector,
        *,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector, self._keep_s, self._clock = collector, keep_s, clock
        self._lock = asyncio.Lock()
        self._last: tuple[float, Snapshot] | None = None

    async def snapshot(self, *, fresh: bool = False) -> Snapshot:
        """Return the newest reading, a new one if that is over a second old or `fresh` is asked for."""
        async with self._lock:
            if fresh or self._last is None or self._clock() - self._last[0] >= self._keep_s:
                told = await self._collector.ask()
                taken = await asyncio.to_thread(self._collector.read, told)
                self._last = (self._clock(), taken)
            return self._last[1]

    async def summary(self) -> dict[str, Any]:
        """Return the body of `/stats/summary`."""
        return summary_of(await self.snapshot())

    async def resource_metrics(self) -> str:
        """Return the body of `/metrics/resource`."""
        return resource_metrics(await self.snapshot())

    async def cadvisor_metrics(self) -> str:
        """Return the body of `/metrics/cadvisor`."""
        return cadvisor_metrics(await self.snapshot())
