"""The cloud's end of a sync stream (docs/protocol.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from synccore.codec import encode_batch
from synccore.errors import LimitError, VersionMismatchError
from synccore.index import RecordIndex
from synccore.messages import (
    BATCH_TARGET_BYTES,
    MAX_DELTAS_PER_FRAME,
    MAX_INVENTORY_BYTES,
    PROTOCOL_VERSION,
    CloudMessage,
    Delta,
    Hello,
    Inventory,
    Lane,
    ObjectKey,
    Op,
    ReportAll,
    State,
    Synced,
    TunnelOpened,
    Welcome,
)
from synccore.session import Session, Step

_FORGET_KEY = ObjectKey("", "", "")
_REFERRING_KINDS = frozenset({"Pod", "Device"})
_TWIN_KINDS = frozenset({"Device", "DeviceModel"})
# Every node id is 16 random bytes; another length is another program.
DATABASE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Joining:
    """A node said Hello: check who it is, then `accept()` or `close()`."""

    hello: Hello


class CloudSession(Session[CloudMessage]):
    """Compares digests, sends the difference, then changes as they happen. A slow node holds keys, not bodies."""

    def __init__(self, now: float, *, heartbeat_s: float, window_frames: int) -> None:
        super().__init__(now, heartbeat_s, window_frames)
        self._hello: Hello | None = None
        self._index = RecordIndex()
        self._read: Callable[[ObjectKey], Delta | None] = lambda _key: None
        self._inventory = bytearray()
        self._inventory_done = False
        # A dict is an ordered set here: a key that changes again before it was sent is sent once.
        self._pending: dict[Lane, dict[ObjectKey, None]] = {lane: {} for lane in Lane}
        self._forget: list[int] = []

    def accept(
        self, index: RecordIndex, read: Callable[[ObjectKey], Delta | None], session_id: str
    ) -> bool:
        """Welcome the node that said Hello; return whether it is in sync already.

        Shapes:  index: the records the node must hold, kept current by its owner. read(key): the newest delta.
        """
        assert self._hello is not None
        self._index, self._read = index, read
        in_sync = self._hello.digest == index.digest()
        self._inventory_done = in_sync
        self.state = State.LIVE if in_sync else State.SYNCING
        self._outgoing.append(Welcome(in_sync, self.heartbeat_s, self.window_frames, session_id))
        return in_sync

    def changed(self, key: ObjectKey) -> None:
        """Note that the record behind `key` changed or went away."""
        self._pending[lane_of(key.kind)][key] = None

    def ask_reports(self) -> None:
        """Ask the node to report every state again. Only once it is accepted."""
        if self.state in (State.SYNCING, State.LIVE):
            self._outgoing.append(ReportAll())

    @property
    def pending_count(self) -> int:
        """Keys that wait to be sent."""
        return sum(map(len, self._pending.values())) + len(self._forget)

    def pump(self) -> list[Delta]:
        """Queue frames of pending keys while the windows take them; return the deltas queued, for the counters."""
        if not self._inventory_done:
            return []
        sent: list[Delta] = []
        for lane in Lane:
            while self.room(lane) > 0 and (batch := self._next_deltas(lane)):
                self.send(lane, encode_batch(batch), None)
                sent.extend(batch)
        if self.state is State.SYNCING and self.pending_count == 0:
            self.state = State.LIVE
            self._outgoing.append(Synced())
        return sent

    def _next_deltas(self, lane: Lane) -> list[Delta]:
        batch: list[Delta] = []
        size_bytes = 0
        if lane is Lane.PODS:  # what must go goes first: a forgotten key may be about to come back
            batch = [
                Delta(Op.FORGET, _FORGET_KEY, "", h) for h in self._forget[:MAX_DELTAS_PER_FRAME]
            ]
            del self._forget[: len(batch)]
        pending = self._pending[lane]
        while pending and len(batch) < MAX_DELTAS_PER_FRAME and size_bytes < BATCH_TARGET_BYTES:
            key = next(iter(pending))
            delta = self._read(key) or Delta(Op.TOMBSTONE, key, "", 0)
            if batch and size_bytes + len(delta.body) > BATCH_TARGET_BYTES:
                break
            del pending[key]
            batch.append(delta)
            size_bytes += len(delta.body)
        return batch

    def _on_hello(self, hello: Hello, _now: float) -> list[Any]:
        if hello.protocol != PROTOCOL_VERSION:
            raise VersionMismatchError(hello.protocol, PROTOCOL_VERSION)
        if len(hello.database_id) != DATABASE_ID_BYTES:
            raise LimitError("database id bytes", len(hello.database_id), DATABASE_ID_BYTES)
        self._hello = hello
        return [Joining(hello)]

    def _on_inventory(self, inventory: Inventory, _now: float) -> list[Any]:
        self._inventory += inventory.entries
        if len(self._inventory) > MAX_INVENTORY_BYTES:
            raise LimitError("inventory bytes", len(self._inventory), MAX_INVENTORY_BYTES)
        if inventory.last:
            difference = self._index.difference(bytes(self._inventory))
            self._inventory.clear()
            self._forget = difference.forget
            # What others refer to goes first: a pod must not start without the ConfigMap that exists.
            for key in sorted(difference.send, key=lambda k: k.kind in _REFERRING_KINDS):
                self.changed(key)
            self._inventory_done = True
        return []

    _TAKES_BLOCKS = True
    _STEPS: ClassVar[dict[tuple[State, type], Step]] = {
        **Session._STEPS,
        (State.JOINING, Hello): _on_hello,
        (State.SYNCING, Inventory): _on_inventory,
        (State.SYNCING, TunnelOpened): Session._on_tunnel,
        (State.LIVE, TunnelOpened): Session._on_tunnel,
    }


def lane_of(kind: str) -> Lane:
    """Return the lane that records of `kind` travel in, downstream."""
    return Lane.TWINS if kind in _TWIN_KINDS else Lane.PODS
