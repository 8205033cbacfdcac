"""How fast statuses are written: more while the API server answers quickly, half as soon as it does not. Pure."""

from __future__ import annotations

# What one API server was seen to take from us beside its other work.
MAX_PER_S = 400.0
# Below that a thousand devices would be a quarter of an hour behind, and nothing would be won.
MIN_PER_S = 2.0
# A healthy API answers a patch of one object within 20 ms; at a quarter of a second it queues.
SLOW_S = 0.25
# One slow second has many slow answers: it is one reason to write less, not fifty.
DECREASE_PERIOD_S = 1.0
INCREASE_PER_WRITE = 1.0
DECREASE = 0.5


class WriteRate:
    """Additive increase, multiplicative decrease of writes a second, by the latency of each."""

    def __init__(self) -> None:
        self.per_s = MAX_PER_S
        self._next_s = 0.0
        self._decreased_s = -DECREASE_PERIOD_S

    def delay_s(self, now_s: float) -> float:
        """Take the next turn to write; return how long it is until then."""
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + 1.0 / self.per_s
        return turn_s - now_s

    def answered(self, latency_s: float, now_s: float) -> None:
        """Learn from a write that was done."""
        if latency_s < SLOW_S:
            self.per_s = min(MAX_PER_S, self.per_s + INCREASE_PER_WRITE)
        else:
            self.refused(now_s)

    def refused(self, now_s: float) -> None:
        """Learn from a write that was throttled, failed or slow."""
        if now_s - self._decreased_s >= DECREASE_PERIOD_S:
            self._decreased_s = now_s
            self.per_s = max(MIN_PER_S, self.per_s * DECREASE)
