"""Full-jitter exponential back-off: spreads a thousand reconnecting nodes instead of herding them."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `minimum_s` to `maximum_s`, each drawn uniformly from (0, limit].

    Full jitter, not a fixed factor: after one outage every node retries, and only a draw over the whole
    interval keeps them from arriving together again.
    """

    def __init__(
        self, minimum_s: float, maximum_s: float, *, rng: random.Random | None = None
    ) -> None:
        self.minimum_s, self.maximum_s = minimum_s, maximum_s
        self.attempt = 0
        self._rng = rng or random.Random()

    def next_delay_s(self, spread_s: float = 0.0) -> float:
        """Return the next delay and count the attempt.

        Units:   spread_s: draw from an interval at least that wide, whatever the maximum: many retry at once.
        """
        # 32 doublings overflow nothing and pass any sane maximum.
        limit_s = min(self.maximum_s, self.minimum_s * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        return self._rng.uniform(0.0, max(limit_s, spread_s))

    def reset(self) -> None:
        """Forget past failures; call it when the peer did something useful, not when it accepted."""
        self.attempt = 0
