"""What both ends of a sync stream do alike: pings, numbered frames with a window, cumulative acknowledgement.

Pure: no I/O, no clock, no randomness, no logging; `now` is an argument (monotonic seconds). After every call the
shell writes what `outgoing()` gives, again and again until it gives nothing; it persists what `receive()` returns,
then calls `committed()`.
Source: docs/protocol.md, sections 2, 3 and 6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from corekit.errors import ProtocolError, TransportError
from synccore.codec import decode_batch
from synccore.compression import UNTOUCHED_LANES, restore, shrink
from synccore.errors import FrameNumberError, LimitError, SessionClosedError, UnexpectedMessageError
from synccore.lanes import MAX_WAITING_FRAMES, LaneQueue
from synccore.messages import (
    MAX_DELTAS_PER_FRAME,
    MAX_FRAME_BYTES,
    MAX_LANE_BYTES,
    Ack,
    Close,
    Compression,
    Delta,
    Frame,
    Lane,
    Ping,
    Pong,
    State,
    TunnelBytes,
    TunnelClosed,
    TunnelCredit,
    TunnelMessage,
)
from synccore.samples import is_block
from synccore.tunnels import Tunnels

# Messages that may wait to be written to a peer which goes on talking. What answers a peer is coalesced, so only one
# that is not read from comes here: by having frames of 4,096 odd records refused, one after the other.
MAX_WAITING_MESSAGES = 4 * MAX_DELTAS_PER_FRAME
# How long a ping may have waited to be read by a loop that was late; nobody knows when it came.
LATE_WINDOW_S = 2.0


class PeerSilentError(TransportError):
    """Nothing was heard for two heartbeats: the link is dead, whatever TCP believes."""

    def __init__(self, silent_s: float) -> None:
        self.silent_s = silent_s
        super().__init__(f"peer silent for {silent_s:.1f} s")


@dataclass(frozen=True, slots=True)
class Received:
    """A frame to make durable; then call `committed(lane, number)`.

    Shapes:  deltas: empty if it is a block of readings; block: then its bytes, not yet looked at.
    """

    lane: Lane
    number: int
    deltas: Sequence[Delta]
    block: bytes = b""
    horizon: int = 0


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The peer has made these durable; `tokens` are what the shell gave with each frame, oldest first."""

    lane: Lane
    tokens: Sequence[Any]


M = TypeVar("M")  # what this end sends
Step = Callable[[Any, Any, float], list[Any]]


class _SendLane:
    """Frames of one lane that this end has sent and the peer has not acknowledged."""

    __slots__ = ("in_flight", "next_number", "size_bytes")

    def __init__(self) -> None:
        self.next_number = 1
        # Number, token, when, bytes; a window at most.
        self.in_flight: list[tuple[int, Any, float, int]] = []
        self.size_bytes = 0  # of them all


class _ReceiveLane:
    """Numbers of one lane: last received, last made durable, last acknowledged; and when what is not durable came."""

    __slots__ = ("acknowledged", "came_at", "committed", "received", "size_bytes", "sizes")

    def __init__(self) -> None:
        self.received = 0
        self.committed = 0
        self.acknowledged = 0  # in what `outgoing()` gave
        self.came_at: list[float] = []
        self.sizes: list[int] = []  # bytes of the same
        self.size_bytes = 0


class Session(Generic[M]):
    """One end of a stream. Subclasses add their steps to `_STEPS`; a pair that is absent ends the session."""

    PATIENCE = 1.0  # heartbeats without a ping, either way, until this end sends one

    def __init__(
        self,
        now: float,
        heartbeat_s: float,
        window_frames: int,
        was_late: Callable[[float], bool] = lambda _since: False,
    ) -> None:
        """Shapes: was_late(since): whether the shell's own loop was late at any time since then."""
        self.state = State.JOINING
        self._was_late = was_late
        self.heartbeat_s, self.window_frames = heartbeat_s, window_frames
        self._outgoing: list[M | Frame | Ack | Ping | TunnelMessage] = []
        # What answers the peer: it must not grow with what a peer says that does not read. Of each only the newest.
        self._pong: Pong | None = None
        self._unacknowledged: set[Lane] = set()
        self._closing: Close | None = None
        # Made when a lane is first used: a cloud holds thousands of sessions, and most of them are idle.
        self._sending: defaultdict[Lane, _SendLane] = defaultdict(_SendLane)
        self._receiving: defaultdict[Lane, _ReceiveLane] = defaultdict(_ReceiveLane)
        self._now = self._heard_at = self._pinged_at = now
        self._pings = 0
        self._queue = LaneQueue()
        self._tunnels: Tunnels | None = None

    def receive(self, message: Any, now: float) -> list[Any]:
        """Take one message of the peer; return events for the shell, in order.

        Raises:  ProtocolError: the peer broke the contract; a Close with its code is in `outgoing()`.
                 SessionClosedError: the peer said Close.
        """
        self._heard_at = self._now = now
        step = self._STEPS.get((self.state, type(message)))
        try:
            if step is None:
                raise UnexpectedMessageError(type(message).__name__, self.state.name)
            if len(self._outgoing) > MAX_WAITING_MESSAGES:
                raise LimitError(
                    "messages that wait to be read", len(self._outgoing), MAX_WAITING_MESSAGES
                )
            return step(self, message, now)
        except ProtocolError as exc:
            self.close(exc.code, str(exc))
            raise

    def outgoing(self, now: float | None = None) -> list[Any]:
        """Return and forget what must be written next, in order; ask again until there is nothing.

        Frames come a turn at a time, so that what is queued meanwhile can go before the rest of a flood.
        """
        self._now = self._now if now is None else now
        sent: list[Any] = self._outgoing
        self._outgoing = []
        if self._tunnels is not None and self.state is not State.CLOSED:
            sent += self._tunnels.take_control()
        sent += self._replies()
        if self._queue and self.state is not State.CLOSED:
            sent += self._queue.take()
            if self._queue.link.wants_probe:
                sent.append(self._ping())
        return sent

    def _replies(self) -> list[Any]:
        """Return and forget what answers the peer; the Close is last of all."""
        answers: list[Any] = [] if self._pong is None else [self._pong]
        for lane in self._unacknowledged:
            receiving = self._receiving[lane]
            receiving.acknowledged = receiving.committed
            answers.append(Ack(lane, receiving.committed))
        if self._closing is not None:
            answers.append(self._closing)
        self._pong = self._closing = None
        self._unacknowledged.clear()
        return answers

    def tick(self, now: float, late_s: float = 0.0) -> None:
        """Keep time: ping when it is due. Call it at least four times a heartbeat.

        Units:   late_s: by how much this call is later than it was meant to be; so long nobody listened to the peer.
        Raises:  PeerSilentError: two heartbeats passed without a sign of the peer.
        """
        self._now = now
        self._heard_at = min(now, self._heard_at + late_s)
        silent_s = now - self._heard_at
        if silent_s >= 2 * self.heartbeat_s:
            self.state = State.CLOSED
            raise PeerSilentError(silent_s)
        joined = self.state in (State.SYNCING, State.LIVE)
        due = now - self._pinged_at >= self.heartbeat_s * self.PATIENCE
        # What waits to be written will be answered too, so a second ping behind it says nothing.
        if joined and due and not self._outgoing:
            self._outgoing.append(self._ping())

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing()` has something; frames that wait for the link to take more do not count."""
        control = self._tunnels is not None and self._tunnels.has_control
        answers = self._pong or self._unacknowledged or self._closing or control
        return bool(self._outgoing or answers or (self._queue and self._queue.has_turn))

    def room(self, lane: Lane) -> int:
        """Return how many more frames of `lane` may be queued: the window has room, and few wait already."""
        sending = self._sending[lane]
        if sending.size_bytes >= MAX_LANE_BYTES:
            return 0
        window = self.window_frames - len(sending.in_flight)
        return max(0, min(window, MAX_WAITING_FRAMES - self._queue.waiting(lane)))

    @property
    def frame_bytes(self) -> int:
        """How large a batch should be at most now; smaller on a slow link, so that lanes can take turns."""
        return self._queue.frame_bytes

    def send(self, lane: Lane, batch: bytes, token: Any, *, compress: bool = True) -> None:
        """Queue one batch; `token` comes back in `Acknowledged`. Only while `room(lane)` is positive."""
        sending = self._sending[lane]
        assert len(sending.in_flight) < self.window_frames, "the shell must ask room() first"
        raw_bytes, compression = len(batch), Compression.NONE
        if compress and lane not in UNTOUCHED_LANES:
            compression, batch = shrink(batch)
        number = sending.next_number
        sending.in_flight.append((number, token, self._now, raw_bytes))
        sending.size_bytes += raw_bytes
        declared_bytes = 0 if compression is Compression.NONE else raw_bytes
        horizon = self._horizon()
        self._queue.put(Frame(lane, number, batch, compression, declared_bytes, horizon))
        sending.next_number += 1

    @property
    def lanes_sent(self) -> list[Lane]:
        """Lanes in which something waits to be acknowledged by the peer."""
        return [lane for lane, sending in self._sending.items() if sending.in_flight]

    @property
    def lanes_received(self) -> list[Lane]:
        """Lanes in which something of the peer waits to be durable here."""
        return [lane for lane, receiving in self._receiving.items() if receiving.came_at]

    def unacknowledged_s(self, lane: Lane, now: float) -> float:
        """Return how long the oldest frame of `lane` has waited for its acknowledgement; 0.0 if none does."""
        in_flight = self._sending[lane].in_flight
        return now - in_flight[0][2] if in_flight else 0.0

    def uncommitted_s(self, lane: Lane, now: float) -> float:
        """Return how long the oldest frame received in `lane` has waited to be durable; 0.0 if none does."""
        came_at = self._receiving[lane].came_at
        return now - came_at[0] if came_at else 0.0

    def committed(self, lane: Lane, number: int) -> None:
        """Say that frames of `lane` up to `number` are durable: acknowledge them."""
        receiving = self._receiving[lane]
        assert receiving.committed < number <= receiving.received
        count = number - receiving.committed
        receiving.size_bytes -= sum(receiving.sizes[:count])
        del receiving.came_at[:count], receiving.sizes[:count]
        receiving.committed = number
        self._unacknowledged.add(lane)

    @property
    def tunnels(self) -> Tunnels:
        """The byte streams of this session; made at first use, as most sessions have none."""
        if self._tunnels is None:
            self._tunnels = Tunnels(on_waiting=self._queue.streams_wait)
            self._queue.next_piece = self._tunnels.next_piece
        return self._tunnels

    def close(self, code: str, reason: str, retry_after_s: float = 0.0) -> None:
        """End the session: one Close, then nothing."""
        if self.state is not State.CLOSED:
            self._closing = Close(code, reason, retry_after_s)
            self._queue.clear()
            self._tunnels = None
            self.state = State.CLOSED

    def _ping(self) -> Ping:
        self._pings += 1
        self._pinged_at = self._now
        self._queue.link.pinged(self._pings, self._now)
        return Ping(self._pings)

    def _on_frame(self, frame: Frame, now: float) -> list[Any]:
        receiving = self._receiving[frame.lane]
        if len(frame.batch) > MAX_FRAME_BYTES:
            raise LimitError("frame bytes", len(frame.batch), MAX_FRAME_BYTES)
        if frame.number != receiving.received + 1:
            expected = str(receiving.received + 1)
            raise FrameNumberError("frame", frame.lane.name, frame.number, expected)
        # Of what was acknowledged, not of what is durable: a peer that does not read has no more window than that.
        if frame.number - receiving.acknowledged > self.window_frames:
            raise LimitError("frames in flight", frame.number, self.window_frames)
        if receiving.size_bytes >= MAX_LANE_BYTES:
            raise LimitError("bytes in flight", receiving.size_bytes, MAX_LANE_BYTES)
        batch = restore(frame.compression, frame.batch, frame.raw_bytes)
        is_readings = self._TAKES_BLOCKS and is_block(batch)
        deltas = () if is_readings else decode_batch(batch)
        receiving.received = frame.number
        receiving.came_at.append(now)
        receiving.sizes.append(len(batch))
        receiving.size_bytes += len(batch)
        block = batch if is_readings else b""
        return [Received(frame.lane, frame.number, deltas, block, frame.horizon)]

    def _on_ack(self, ack: Ack, _now: float) -> list[Any]:
        sending = self._sending[ack.lane]
        if ack.number >= sending.next_number:
            expected = f"at most {sending.next_number - 1}"
            raise FrameNumberError("acknowledgement", ack.lane.name, ack.number, expected)
        done = [sent for sent in sending.in_flight if sent[0] <= ack.number]
        tokens = [token for _, token, _, _ in done]
        sending.size_bytes -= sum(size_bytes for _, _, _, size_bytes in done)
        del sending.in_flight[: len(done)]
        return [Acknowledged(ack.lane, tokens)] if tokens else []

    def _on_ping(self, ping: Ping, now: float) -> list[Any]:
        self._pinged_at = now  # its answer serves both: who is pinged in time need not ping
        self._pong = Pong(ping.number, self._spread_s(), self._was_late(now - LATE_WINDOW_S))
        return []

    def _spread_s(self) -> float:
        """Return what the peer should know of spreading its dials; an edge is not dialled."""
        return 0.0

    def _horizon(self) -> int:
        """Return how far this end has come in what it sends; an edge is asked for nothing of the kind."""
        return 0

    def _on_pong(self, pong: Pong, now: float) -> list[Any]:
        if pong.number > self._pings:
            raise FrameNumberError("pong", "-", pong.number, f"at most {self._pings}")
        link = self._queue.link
        late = pong.late or (link.probed_at is not None and self._was_late(link.probed_at))
        link.ponged(pong.number, now, late=late)
        return []

    def _on_tunnel(self, message: TunnelMessage, _now: float) -> list[Any]:
        return self.tunnels.receive(message)

    def _on_close(self, close: Close, _now: float) -> list[Any]:
        self.state = State.CLOSED
        raise SessionClosedError(close.code, close.reason, close.retry_after_s)

    # Readings travel upstream only; at the edge a block is a batch of an unknown format.
    _TAKES_BLOCKS: ClassVar[bool] = False
    # Filled below: a class body cannot name its own methods inside a comprehension.
    _STEPS: ClassVar[dict[tuple[State, type], Step]] = {}


_JOINED_STEPS: dict[type, Step] = {
    Frame: Session._on_frame,
    Ack: Session._on_ack,
    Ping: Session._on_ping,
    Pong: Session._on_pong,
    Close: Session._on_close,
    TunnelBytes: Session._on_tunnel,
    TunnelCredit: Session._on_tunnel,
    TunnelClosed: Session._on_tunnel,
}
Session._STEPS.update(
    {
        (state, kind): step
        for state in (State.SYNCING, State.LIVE)
        for kind, step in _JOINED_STEPS.items()
    }
)
Session._STEPS[State.JOINING, Close] = Session._on_close
