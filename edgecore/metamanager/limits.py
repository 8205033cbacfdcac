"""Bounds of the log rows in the outbox, and what is given up when a bound is reached. Every loss is counted.

State rows need no bound of their own: there is one per key, and keys are what the node holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgecore.metamanager.errors import OutboxFullError
from edgecore.metamanager.outbox import NOTHING, Held, LogRow, OutboxRepository, size_of
from edgecore.records import Report
from edgecore.settings import StoreSettings
from synccore.messages import Lane, ObjectKey, Op

REJECT, DROP_OLDEST, THIN = "reject", "drop-oldest", "thin"
TOO_OLD, DAMAGED = "too-old", "damaged"
# A lane that is full is brought down to this share, so that not every commit has to make room.
ROOM_SHARE = 0.9


class Loss(NamedTuple):
    """Log rows of one lane that will never be sent.

    Shapes:  first, last: sequences; with `thin` not all between them are lost. rows: at least so many.
    Units:   first_ms, last_ms: the database's own clock; 0: not known.
    """

    lane: Lane
    reason: str
    first: int
    last: int
    rows: int
    size_bytes: int
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True)
class Bound:
    """Of the log rows of one lane."""

    max_bytes: int
    max_age_ms: int
    policy: str


def bounds_of(settings: StoreSettings) -> dict[Lane, Bound]:
    """Return the bound of each lane."""
    policies = {lane: getattr(settings.outbox_policy, lane.name.lower()) for lane in Lane}
    max_age_ms = int(settings.outbox_max_age_s * 1000)
    return {lane: Bound(settings.outbox_max_bytes, max_age_ms, policies[lane]) for lane in Lane}


class LogKeeper:
    """Keeps the log rows of each lane within its bound, on the writer's connection. `held` is what waits."""

    def __init__(self, outbox: OutboxRepository, bounds: dict[Lane, Bound]) -> None:
        self._outbox, self._bounds = outbox, bounds
        self.held = {lane: outbox.log_held(lane) for lane in Lane}

    def admit(self, reports: Sequence[Report]) -> list[Loss]:
        """Make room for the log rows among `reports`; return what was lost by it.

        Raises:  OutboxFullError: the lane's policy is to reject.
        """
        losses: list[Loss] = []
        wanted: dict[Lane, Held] = {}
        for report in reports:
            if report.op is Op.APPEND:
                one = Held(1, size_of(report))
                wanted[report.lane] = wanted.get(report.lane, NOTHING).plus(one)
        for lane, more in wanted.items():
            bound = self._bounds[lane]
            if self.held[lane].size_bytes + more.size_bytes > bound.max_bytes:
                if bound.policy == REJECT:
                    raise OutboxFullError(lane.name.lower(), bound.max_bytes)
                losses += self._make_room(lane, bound, more.size_bytes)
            self.held[lane] = self.held[lane].plus(more)
        return losses

    def acknowledged(self, lane: Lane, gone: Held) -> None:
        """Note that log rows left because the cloud has them."""
        self.held[lane] = self.held[lane].minus(gone)

    def expire(self, now_ms: int) -> list[Loss]:
        """Drop what is older than its lane's bound."""
        losses = []
        for lane, bound in self._bounds.items():
            oldest = self._outbox.oldest_ms(lane)
            if self.held[lane].rows and oldest is not None and oldest < now_ms - bound.max_age_ms:
                limit_ms = now_ms - bound.max_age_ms
                old = [row for row in self._outbox.log_rows(lane) if row.stored_ms < limit_ms]
                losses += self._drop(lane, TOO_OLD, old)
        return losses

    def _make_room(self, lane: Lane, bound: Bound, more_bytes: int) -> list[Loss]:
        target_bytes = max(int(bound.max_bytes * ROOM_SHARE) - more_bytes, 0)
        excess_bytes = self.held[lane].size_bytes - target_bytes
        losses: list[Loss] = []
        if bound.policy == THIN:
            victims = thin(self._outbox.log_rows(lane), excess_bytes)
            excess_bytes -= sum(row.size_bytes for row in victims)
            losses += self._drop(lane, THIN, victims)
        if excess_bytes > 0:
            losses += self._drop(
                lane, DROP_OLDEST, oldest(self._outbox.log_rows(lane), excess_bytes)
            )
        return losses

    def _drop(self, lane: Lane, reason: str, rows: Sequence[LogRow]) -> list[Loss]:
        if not rows:
            return []
        self._outbox.drop([row.version for row in rows])
        gone = Held(len(rows), sum(row.size_bytes for row in rows))
        self.held[lane] = self.held[lane].minus(gone)
        ends = (rows[0].version, rows[-1].version)
        return [Loss(lane, reason, *ends, *gone, rows[0].stored_ms, rows[-1].stored_ms)]


def oldest(rows: Sequence[LogRow], excess_bytes: int) -> list[LogRow]:
    """Return the fewest oldest of `rows` that hold `excess_bytes`, or all of them."""
    victims = []
    for row in rows:
        if excess_bytes <= 0:
            break
        victims.append(row)
        excess_bytes -= row.size_bytes
    return victims


def thin(rows: Sequence[LogRow], excess_bytes: int) -> list[LogRow]:
    """Return every second row of each key, oldest first, until `excess_bytes` are found or none is left.

    The series of a key keeps its first row and its shape; what is old loses detail before what is new does.
    """
    victims = []
    seen: Counter[ObjectKey] = Counter()
    for row in rows:
        if excess_bytes <= 0:
            break
        seen[row.key] += 1
        if seen[row.key] % 2 == 0:
            victims.append(row)
            excess_bytes -= row.size_bytes
    return victims
