"""At which rate nodes are let in: after a cut everybody is back at once, and each join costs a comparison."""

from __future__ import annotations

# A node that does not come within this of its turn has lost it.
KEPT_S = 60.0
# Timers fire a moment early, and a turn is not worth a second wait.
EARLY_S = 0.01
# Turns that are remembered. Beyond it nodes are told to come back, and queue anew when they do.
MAX_TURNS = 100_000
# Joins of one node at once, and one more in each second after: a bad link comes back as often, a node that joins and
# leaves in a loop must not take the others' turns.
OWN_BURST_COUNT, OWN_APART_S = 30, 1.0


class Admission:
    """A rate with a burst; who comes too early gets a turn of its own, so nobody has to try twice.

    Turns are 1/rate apart, behind all that were given before: those who were sent away come back one by one
    over just the time that it takes to serve them, and there is no second wave. Pure: `now` is monotonic seconds.
    """

    def __init__(self, rate_per_s: float, burst_count: int) -> None:
        self._rate_per_s, self._burst_count = rate_per_s, burst_count
        self._apart_s, self._burst_s = 1.0 / rate_per_s, burst_count / rate_per_s
        self._next_turn = float("-inf")
        self._turns: dict[str, float] = {}  # in order of their time, as they were given
        # Nodes that joined lately, until when their own burst is full again; in the order of their last join.
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def waiting_count(self, now: float) -> int:
        """Return how many nodes have a turn that is still to come, or was not taken yet and is not lost."""
        self._forget_lost(now)
        return len(self._turns)

    def spread_s(self, node_count: int) -> float:
        """Return over how long so many nodes should spread their dials, so that each finds its turn at once."""
        return max(0, node_count - self._burst_count) / self._rate_per_s

    def wait_s(self, node: str, now: float, *, at_least_s: float = 0.0) -> float:
        """Return 0.0 if `node` may come in now, else in how many seconds it should try again.

        Units:   at_least_s: a turn before that would be of no use; with it nobody comes in now.
        """
        own_s = 0.0 if at_least_s else self._own_wait_s(node, now)
        if own_s > 0:
            return own_s
        turn = self._turns.get(node)
        if turn is not None and now + at_least_s <= turn + KEPT_S:
            if now >= turn - EARLY_S and not at_least_s:
                del self._turns[node]
                return self._let_in(node, now)
            if turn - now >= at_least_s:
                return turn - now
        self._forget_lost(now)
        # A full burst is saved up at most; what was not used longer ago is gone.
        saved_up = now + at_least_s - self._burst_s + self._apart_s
        self._next_turn = max(self._next_turn + self._apart_s, saved_up)
        if self._next_turn <= now and not at_least_s:
            return self._let_in(node, now)
        turn = max(self._next_turn, now + max(at_least_s, self._apart_s))
        self._turns.pop(node, None)
        if len(self._turns) < MAX_TURNS:
            self._turns[node] = turn
        return turn - now

    def _own_wait_s(self, node: str, now: float) -> float:
        """Return in how long `node` may join again by what it has joined itself."""
        spent_s = self._full_at.get(node, now) - now
        return spent_s - (OWN_BURST_COUNT - 1) * OWN_APART_S

    def _let_in(self, node: str, now: float) -> float:
        self._full_at[node] = max(self._full_at.pop(node, now), now) + OWN_APART_S
        while self._full_at:
            first = next(iter(self._full_at))
            if self._full_at[first] > now:
                break
            del self._full_at[first]
        return 0.0

    def _forget_lost(self, now: float) -> None:
        while self._turns:
            node = next(iter(self._turns))
            if now <= self._turns[node] + KEPT_S:
                return
            del self._turns[node]
