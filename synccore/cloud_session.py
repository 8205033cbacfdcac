"""The cloud's end of a sync stream (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from synccore.asking import Answers, Asked
from synccore.buckets import differing
from synccore.codec import encode_batch
from synccore.errors import LimitError, UnexpectedMessageError, VersionMismatchError
from synccore.index import RecordIndex
from synccore.messages import (
    MAX_DELTAS_PER_FRAME,
    MAX_INVENTORY_BYTES,
    MAX_INVENTORY_PAGE_BYTES,
    PROTOCOL_VERSION,
    Ask,
    CloudMessage,
    Delta,
    Hello,
    Inventory,
    Lane,
    ObjectKey,
    Op,
    Rejected,
    ReportAll,
    State,
    Summary,
    Synced,
    TunnelOpened,
    Wanted,
    Welcome,
)
from synccore.session import Session, Step

_FORGET_KEY = ObjectKey("", "", "")
_REFERRING_KINDS = frozenset({"Pod", "Device"})
_TWIN_KINDS = frozenset({"Device", "DeviceModel"})
# Every node id is 16 random bytes; another length is another program.
DATABASE_ID_BYTES = 16
# What a record costs beside its body, about: so that a frame of a thousand tombstones is not taken for empty.
_KEY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Joining:
    """A node said Hello: check who it is, then `accept()` or `close()`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class SetAside:
    """The node could not keep a record; it has acknowledged the frame all the same."""

    rejected: Rejected


class Sent(NamedTuple):
    """What of one delta is needed once it has left: for counters, and for the logs until it is acknowledged."""

    lane: Lane
    op: Op
    key: ObjectKey
    change_id: int


class CloudSession(Session[CloudMessage]):
    """Compares digests, sends the difference, then changes as they happen. A slow node holds keys, not bodies."""

    # More than the edge's, so that of the two only the edge pings: at five thousand nodes that is half the messages.
    PATIENCE = 1.5

    def __init__(
        self,
        now: float,
        *,
        heartbeat_s: float,
        window_frames: int,
        spread_s: Callable[[], float] = lambda: 0.0,
        horizon: Callable[[], int] = lambda: 0,
        was_late: Callable[[float], bool] = lambda _since: False,
    ) -> None:
        """Take the terms of the session.

        Shapes:  horizon: how far what `read` of `accept` returns has come.
        Units:   spread_s: over how long all nodes should spread their dials, if they were cut now.
        """
        super().__init__(now, heartbeat_s, window_frames, was_late)
        self._spread, self._how_far = spread_s, horizon
        self._hello: Hello | None = None
        self._index = RecordIndex()
        self._read: Callable[[ObjectKey], Delta | None] = lambda _key: None
        self._inventory = bytearray()
        self._inventory_done = False
        self._wanted = b""  # bits of the buckets that the inventory lists; empty: all
        # Key -> the id of its newest change: a key that changes again before it was sent is sent once.
        self._pending: dict[Lane, dict[ObjectKey, int]] = {Lane.PODS: {}, Lane.TWINS: {}}
        self._next_change_id: Callable[[], int] = lambda: 0
        self._forget: list[int] = []
        self._answers: Answers | None = None  # made with the first question: most nodes are idle

    def accept(
        self,
        index: RecordIndex,
        read: Callable[[ObjectKey], Delta | None],
        session_id: str,
        next_change_id: Callable[[], int] = lambda: 0,
    ) -> bool:
        """Welcome the node that said Hello; return whether it is in sync already.

        Shapes:  index: the records the node must hold, kept current by its owner. read(key): the newest delta.
                 next_change_id: of each difference that the inventory shows.
        """
        assert self._hello is not None
        self._index, self._read, self._next_change_id = index, read, next_change_id
        in_sync = self._hello.digest == index.digest()
        self._inventory_done = in_sync
        self.state = State.LIVE if in_sync else State.SYNCING
        terms = (in_sync, self.heartbeat_s, self.window_frames, session_id)
        self._outgoing.append(Welcome(*terms, spread_s=self._spread(), horizon=self._horizon()))
        self._outgoing.append(self._ping())  # it measures the link while that is empty
        return in_sync

    def let_go(self) -> None:
        """Forget the records; for a session that has ended, whose owner they would keep."""
        self._index, self._read = RecordIndex(), lambda _key: None

    def changed(self, key: ObjectKey, change_id: int = 0) -> None:
        """Note that the record behind `key` changed or went away; `change_id` names that change in the logs."""
        self._pending[lane_of(key.kind)][key] = change_id

    def ask_reports(self) -> None:
        """Ask the node to report every state again. Only once it is accepted."""
        if self.state in (State.SYNCING, State.LIVE) and ReportAll() not in self._outgoing:
            self._outgoing.append(ReportAll())

    def answer(self, number: int, status: int, body: bytes) -> None:
        """Answer a question that `receive()` returned; after the end of the session it does nothing."""
        if self._answers is not None and self.state is not State.CLOSED:
            self._outgoing.append(self._answers.answer(number, status, body))

    @property
    def pending_count(self) -> int:
        """Keys that wait to be sent."""
        return sum(map(len, self._pending.values())) + len(self._forget)

    @property
    def has_outgoing(self) -> bool:
        """Whether `pump()` and `outgoing()` are worth a call."""
        waiting = self._inventory_done and (self.state is State.SYNCING or self.pending_count > 0)
        return waiting or super().has_outgoing

    def pump(self) -> list[Sent]:
        """Queue frames of pending keys while lanes have room; return what went into them.

        Bodies are read here and not before: whatever has no room yet is a key.
        """
        if not self._inventory_done:
            return []
        sent: list[Sent] = []
        for lane in self._pending:
            while self.room(lane) > 0 and (batch := self._next_deltas(lane)):
                token = [Sent(lane, d.op, d.key, d.change_id) for d in batch]
                # What compresses well tells its length apart; beside a secret nobody else's text may do that.
                secret = any(d.key.kind == "Secret" for d in batch)
                self.send(lane, encode_batch(batch), token, compress=not secret)
                sent += token
        if self.state is State.SYNCING and self.pending_count == 0 and not len(self._queue):
            self.state = State.LIVE
            self._outgoing.append(Synced())
        return sent

    def _next_deltas(self, lane: Lane) -> list[Delta]:
        batch: list[Delta] = []
        size_bytes = 0
        if lane is Lane.PODS and self._forget:
            # What must go goes first: a forgotten key may be about to come back.
            gone, self._forget = (
                self._forget[:MAX_DELTAS_PER_FRAME],
                self._forget[MAX_DELTAS_PER_FRAME:],
            )
            ids = self._next_change_id
            batch = [Delta(Op.FORGET, _FORGET_KEY, "", h, change_id=ids()) for h in gone]
        pending, limit_bytes, taken = self._pending[lane], self.frame_bytes, []
        for key, change_id in pending.items():
            if len(batch) >= MAX_DELTAS_PER_FRAME or size_bytes >= limit_bytes:
                break
            delta = self._read(key) or Delta(Op.TOMBSTONE, key, "", 0)
            if batch and size_bytes + len(delta.body) > limit_bytes:
                break
            batch.append(delta._replace(change_id=change_id))
            size_bytes += len(delta.body) + _KEY_BYTES
            taken.append(key)
        for (
            key
        ) in taken:  # not one by one above: finding the first key steps over all that went before
            del pending[key]
        return batch

    def _on_hello(self, hello: Hello, _now: float) -> list[Any]:
        if hello.protocol != PROTOCOL_VERSION:
            raise VersionMismatchError(hello.protocol, PROTOCOL_VERSION)
        if len(hello.database_id) != DATABASE_ID_BYTES:
            raise LimitError("database id bytes", len(hello.database_id), DATABASE_ID_BYTES)
        self._hello = hello
        return [Joining(hello)]

    def _on_summary(self, summary: Summary, _now: float) -> list[Any]:
        if self._inventory_done or self._inventory or self._wanted:
            raise UnexpectedMessageError("Summary that is not first", self.state.name)
        self._wanted = differing(self._index.entries(), summary.digests)
        self._outgoing.append(Wanted(self._wanted))
        return []

    def _on_inventory(self, inventory: Inventory, _now: float) -> list[Any]:
        if self._inventory_done:
            raise UnexpectedMessageError("Inventory after the last page", self.state.name)
        if len(inventory.entries) > MAX_INVENTORY_PAGE_BYTES:
            page_bytes = len(inventory.entries)
            raise LimitError("inventory page bytes", page_bytes, MAX_INVENTORY_PAGE_BYTES)
        self._inventory += inventory.entries
        if len(self._inventory) > MAX_INVENTORY_BYTES:
            raise LimitError("inventory bytes", len(self._inventory), MAX_INVENTORY_BYTES)
        if inventory.last:
            difference = self._index.difference(bytes(self._inventory), self._wanted)
            self._inventory.clear()
            self._forget = difference.forget
            # What others refer to goes first: a pod must not start without the ConfigMap that exists.
            for key in sorted(difference.send, key=lambda k: k.kind in _REFERRING_KINDS):
                self.changed(key, self._next_change_id())
            self._inventory_done = True
        return []

    def _spread_s(self) -> float:
        return self._spread()

    def _horizon(self) -> int:
        return self._how_far()

    def _on_rejected(self, rejected: Rejected, _now: float) -> list[Any]:
        return [SetAside(rejected)]

    def _on_ask(self, ask: Ask, _now: float) -> list[Any]:
        self._answers = self._answers or Answers()
        taken = self._answers.take(ask)
        if isinstance(taken, Asked):
            return [taken]
        self._outgoing.append(taken)
        return []

    _TAKES_BLOCKS = True
    _STEPS: ClassVar[dict[tuple[State, type], Step]] = {
        **Session._STEPS,
        (State.JOINING, Hello): _on_hello,
        (State.SYNCING, Summary): _on_summary,
        (State.SYNCING, Inventory): _on_inventory,
        (State.SYNCING, Rejected): _on_rejected,
        (State.LIVE, Rejected): _on_rejected,
        (State.SYNCING, Ask): _on_ask,
        (State.LIVE, Ask): _on_ask,
        (State.SYNCING, TunnelOpened): Session._on_tunnel,
        (State.LIVE, TunnelOpened): Session._on_tunnel,
    }


def lane_of(kind: str) -> Lane:
    """Return the lane that records of `kind` travel in, downstream."""
    return Lane.TWINS if kind in _TWIN_KINDS else Lane.PODS
