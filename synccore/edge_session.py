"""The edge's end of a sync stream (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from synccore.asking import Questions
from synccore.buckets import ENTRY_BYTES, MIN_SUMMARIZED, check_wanted, select, summarize
from synccore.errors import LimitError, UnexpectedMessageError, VersionMismatchError
from synccore.messages import (
    MAX_INVENTORY_PAGE_BYTES,
    PROTOCOL_VERSION,
    Answer,
    Delta,
    EdgeMessage,
    Hello,
    Inventory,
    Lane,
    Pong,
    Rejected,
    ReportAll,
    State,
    Summary,
    Synced,
    TunnelOpen,
    Wanted,
    Welcome,
)
from synccore.session import Session, Step

# Until the cloud's Welcome names its own. Long: joining a cloud that admits nodes at a rate may take a while.
JOIN_HEARTBEAT_S = 15.0
# What a peer may ask for: shorter would be a flood of pings, longer a dead link noticed too late.
HEARTBEAT_LIMITS_S = (0.05, 600.0)
WINDOW_LIMIT_FRAMES = 1024


@dataclass(frozen=True, slots=True)
class Joined:
    """The cloud took us; `in_sync` if nothing has to move."""

    in_sync: bool
    session_id: str
    horizon: int = 0


@dataclass(frozen=True, slots=True)
class Converged:
    """Every difference has arrived and is in the events before this one."""


@dataclass(frozen=True, slots=True)
class ReportsWanted:
    """The cloud wants every state again, as if nothing had been reported."""


class EdgeSession(Session[EdgeMessage]):
    """Joins with a digest, answers a Welcome that asks with the inventory, then takes frames."""

    def __init__(
        self,
        hello: Hello,
        inventory: Callable[[], bytes],
        now: float,
        was_late: Callable[[float], bool] = lambda _since: False,
    ) -> None:
        super().__init__(now, JOIN_HEARTBEAT_S, 1, was_late)
        self._inventory = inventory
        # Until the cloud says which buckets it wants to see. No frame comes before that, so they stay true.
        self._summary = self._entries = b""
        # Over how long to spread the first dial once this link is lost; every Pong brings it up to date.
        self.spread_s = 0.0
        self._questions = Questions()
        self._outgoing.append(hello)

    def rejected(self, lane: Lane, delta: Delta, reason: str) -> None:
        """Tell the cloud that `delta` cannot be kept here; call it before `committed()` of its frame."""
        self._outgoing.append(Rejected(lane, delta.key, delta.version, delta.change_id, reason))

    def ask(self, kind: str, body: bytes) -> int:
        """Queue a question; return its id. Only once the cloud has welcomed us. Raises: AskError."""
        assert self.state in (State.SYNCING, State.LIVE)
        ask = self._questions.put(kind, body)
        self._outgoing.append(ask)
        return ask.id

    def forget_ask(self, number: int) -> None:
        """Give up on a question: it came to its deadline, or nobody waits for it."""
        self._questions.forget(number)

    def _on_welcome(self, welcome: Welcome, _now: float) -> list[Any]:
        if welcome.protocol != PROTOCOL_VERSION:
            raise VersionMismatchError(welcome.protocol, PROTOCOL_VERSION)
        low, high = HEARTBEAT_LIMITS_S
        if not low <= welcome.heartbeat_s <= high:
            raise LimitError("heartbeat ms", int(welcome.heartbeat_s * 1000), int(high * 1000))
        if not 1 <= welcome.window_frames <= WINDOW_LIMIT_FRAMES:
            raise LimitError("window frames", welcome.window_frames, WINDOW_LIMIT_FRAMES)
        self.heartbeat_s, self.window_frames = welcome.heartbeat_s, welcome.window_frames
        self.spread_s = welcome.spread_s
        self.state = State.LIVE if welcome.in_sync else State.SYNCING
        self._outgoing.append(
            self._ping()
        )  # before all else: it measures the link while that is empty
        if not welcome.in_sync:
            entries = self._inventory()
            if len(entries) > MIN_SUMMARIZED * ENTRY_BYTES:
                self._summary, self._entries = summarize(entries), entries
                self._outgoing.append(Summary(self._summary))
            else:
                self._queue_inventory(entries)
        return [Joined(welcome.in_sync, welcome.session_id, welcome.horizon)]

    def _on_pong(self, pong: Pong, now: float) -> list[Any]:
        self.spread_s = pong.spread_s
        return super()._on_pong(pong, now)

    def _on_wanted(self, wanted: Wanted, _now: float) -> list[Any]:
        if not self._summary:
            raise UnexpectedMessageError("Wanted that answers no Summary", self.state.name)
        check_wanted(wanted.buckets, self._summary)
        entries = select(self._entries, wanted.buckets)
        self._summary = self._entries = b""
        self._queue_inventory(entries)
        return []

    def _queue_inventory(self, entries: bytes) -> None:
        starts = range(0, max(len(entries), 1), MAX_INVENTORY_PAGE_BYTES)
        for start in starts:
            page = entries[start : start + MAX_INVENTORY_PAGE_BYTES]
            self._outgoing.append(Inventory(page, last=start == starts[-1]))

    def _on_synced(self, _synced: Synced, _now: float) -> list[Any]:
        self.state = State.LIVE
        return [Converged()]

    def _on_report_all(self, _report_all: ReportAll, _now: float) -> list[Any]:
        return [ReportsWanted()]

    def _on_answer(self, answer: Answer, _now: float) -> list[Any]:
        return list(self._questions.take(answer))

    _STEPS: ClassVar[dict[tuple[State, type], Step]] = {
        **Session._STEPS,
        (State.JOINING, Welcome): _on_welcome,
        (State.SYNCING, Pong): _on_pong,
        (State.LIVE, Pong): _on_pong,
        (State.SYNCING, Wanted): _on_wanted,
        (State.SYNCING, Synced): _on_synced,
        (State.SYNCING, ReportAll): _on_report_all,
        (State.LIVE, ReportAll): _on_report_all,
        (State.SYNCING, Answer): _on_answer,
        (State.LIVE, Answer): _on_answer,
        (State.SYNCING, TunnelOpen): Session._on_tunnel,
        (State.LIVE, TunnelOpen): Session._on_tunnel,
    }
