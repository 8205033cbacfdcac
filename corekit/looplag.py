"""How late the event loop runs: a slow answer is the link's fault only if both ends were there to take it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PERIOD_S = 0.25
# An answer goes through a few turns of the loop; so late in each, what it took says nothing of the link.
LATE_S = 0.05


class LoopLag:
    """Wakes now and then, and notes when that was late. One for a process is enough."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due_s = float("inf")
        self._late_at_s = float("-inf")

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._due_s = self._clock() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            now = self._clock()
            if now - self._due_s > LATE_S:
                self._late_at_s = now

    def was_late(self, since_s: float) -> bool:
        """Tell whether the loop was late at any moment since then, this one included. Units: seconds of the clock."""
        return self._late_at_s >= since_s or self._clock() - self._due_s > LATE_S
