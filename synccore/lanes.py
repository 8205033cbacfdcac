"""Who sends next, and when the link has enough: no flood of samples may delay a heartbeat.

Pure. Frames wait here, by lane, until the shell asks for what to write. Control goes first, always; the others
share by weight, and only while fewer bytes of theirs are under way than the link carries in a moment. What is
under way cannot be overtaken, so that number is what a heartbeat may have in front of it.
Source: docs/protocol.md, section 3, "Lanes".
"""

from __future__ import annotations

from collections.abc import Callable

from synccore.messages import BATCH_TARGET_BYTES, Frame, Lane, TunnelBytes

# Tunnelled byte streams take their turns as one more lane, which has no number on the wire.
STREAMS = 4
# Bytes of each lane while all have something to send. Control is not in it: it does not wait.
SHARES = {Lane.PODS: 8, Lane.TWINS: 4, Lane.SAMPLES: 2}
STREAMS_SHARE = 1
# Encoded frames that may wait per lane: one being taken, one behind it. The rest stay keys or rows.
MAX_WAITING_FRAMES = 2

# TCP itself starts with 14 KiB in flight.
START_BUDGET_BYTES = 16 << 10
# Half a second at 32 kbit/s, the slowest link that is to carry a heartbeat within a second.
MIN_BUDGET_BYTES = 2 << 10
# 56 Mbit/s at the 600 ms of a satellite; a gigabyte a second at the millisecond of a local network.
MAX_BUDGET_BYTES = 4 << 20
MIN_FRAME_BYTES = 1 << 10
# How much later than the link's own delay an answer may be: it waited so long behind our own bytes. The first is
# less than half of the second, so that doubling does not overshoot.
SHORT_QUEUE_S = 0.1
LONG_QUEUE_S = 0.25
# No link is slower by nature than a satellite's: whatever is longer is a queue.
MAX_NATURAL_S = 0.7


class LinkBudget:
    """How many bytes may be under way, learnt from how long pings take: doubled while they are fast, halved when not.

    The first ping of a session goes before all bytes and shows the link's own delay. A ping is answered as soon as it
    is read, whatever its peer does with the frames before it; so its time tells of the link, and not of a slow disk or
    a slow Kubernetes API behind it. Of an end that is late to read it tells nothing: a hub that thousands of nodes
    wake at once would take all their links for slow, and cut its work into a thousand small turns.
    """

    __slots__ = ("_best_s", "_confirmed", "_probe", "_sent", "budget_bytes")

    def __init__(self) -> None:
        self.budget_bytes = START_BUDGET_BYTES
        self._sent = self._confirmed = 0
        self._probe: tuple[int, int, float, bool] | None = None
        self._best_s = MAX_NATURAL_S

    @property
    def under_way_bytes(self) -> int:
        """Bytes handed out that no answered ping has confirmed."""
        return self._sent - self._confirmed

    @property
    def has_room(self) -> bool:
        """Whether another frame may go."""
        return self.under_way_bytes < self.budget_bytes

    @property
    def wants_probe(self) -> bool:
        """Whether a ping should follow the bytes that went out."""
        return self._probe is None and 2 * self.under_way_bytes >= self.budget_bytes

    def sent(self, size_bytes: int) -> None:
        """Count bytes that were handed out."""
        self._sent += size_bytes

    def pinged(self, number: int, now: float) -> None:
        """Note that ping `number` follows what was handed out."""
        if self._probe is None:
            self._probe = (number, self._sent, now, self.wants_probe)

    @property
    def probed_at(self) -> float | None:
        """When the ping was sent whose answer is waited for."""
        return None if self._probe is None else self._probe[2]

    def ponged(self, number: int, now: float, *, late: bool = False) -> None:
        """Take the answer to a ping. Shapes: late: one of the two ends was late to read."""
        if self._probe is None or number < self._probe[0]:
            return
        _, reached, pinged_at, loaded = self._probe
        self._probe, self._confirmed = None, reached
        took_s = now - pinged_at
        self._best_s = min(self._best_s, took_s)
        if late:
            return
        queued_s = took_s - self._best_s
        if queued_s > LONG_QUEUE_S:
            self.budget_bytes = max(self.budget_bytes // 2, MIN_BUDGET_BYTES)
        elif (
            loaded and queued_s <= SHORT_QUEUE_S
        ):  # a fast answer on an idle link says nothing about a loaded one
            self.budget_bytes = min(self.budget_bytes * 2, MAX_BUDGET_BYTES)


class LaneQueue:
    """Frames that wait for the link, and which of them goes next; `next_piece` gives those of byte streams."""

    __slots__ = ("_passed", "_streams_wait", "_waiting", "link", "next_piece")

    def __init__(self) -> None:
        self.link = LinkBudget()
        self._waiting: dict[Lane, list[Frame]] = {}
        self._streams_wait = False
        # Asked with a limit in bytes; None: no stream has something to send.
        self.next_piece: Callable[[int], TunnelBytes | None] = lambda _limit: None
        # Bytes by share that a lane has sent; the smallest is next (start-time fair queueing).
        self._passed: dict[int, float] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._streams_wait

    @property
    def has_turn(self) -> bool:
        """Whether `take()` would return something."""
        return Lane.CONTROL in self._waiting or (bool(self) and self.link.has_room)

    def waiting(self, lane: Lane) -> int:
        """Return how many frames of `lane` wait."""
        return len(self._waiting.get(lane, ()))

    @property
    def frame_bytes(self) -> int:
        """How large a frame should be: a quarter of what may be under way, so that lanes can take turns."""
        return min(BATCH_TARGET_BYTES, max(MIN_FRAME_BYTES, self.link.budget_bytes // 4))

    def put(self, frame: Frame) -> None:
        """Add a frame behind those of its lane."""
        lane = frame.lane
        if lane not in self._waiting:
            self._waiting[lane] = []
            if lane in SHARES:
                self._enter(lane)
        self._waiting[lane].append(frame)

    def streams_wait(self) -> None:
        """Note that `next_piece` has something."""
        if not self._streams_wait:
            self._streams_wait = True
            self._enter(STREAMS)

    def take(self) -> list[Frame | TunnelBytes]:
        """Return what goes now: every control frame, then of the others about one frame's worth.

        Little at a time: what is handed out cannot be overtaken, so the shell asks again for each turn.
        """
        taken: list[Frame | TunnelBytes] = [*self._waiting.pop(Lane.CONTROL, ())]
        turn_bytes = 0
        while self and self.link.has_room and turn_bytes < self.frame_bytes:
            lane = min(self._turns(), key=self._passed.__getitem__)
            if lane == STREAMS:
                piece = self.next_piece(self.frame_bytes)
                if piece is None:
                    self._streams_wait = False
                    continue
                taken.append(piece)
                size_bytes = len(piece.content)
            else:
                frame = self._pop(Lane(lane))
                taken.append(frame)
                size_bytes = len(frame.batch)
            turn_bytes += size_bytes
            self.link.sent(size_bytes)
            share = STREAMS_SHARE if lane == STREAMS else SHARES[Lane(lane)]
            self._passed[lane] += size_bytes / share
        return taken

    def clear(self) -> None:
        """Forget everything that waits."""
        self._waiting.clear()
        self._streams_wait = False

    def _turns(self) -> list[int]:
        """Return who has something to send."""
        return [*self._waiting, STREAMS] if self._streams_wait else [*self._waiting]

    def _enter(self, lane: int) -> None:
        """Let a lane that had nothing to send take turns: nobody saves up meanwhile."""
        others = [self._passed[other] for other in self._turns() if other in self._passed]
        floor = min(others, default=0.0)
        self._passed[lane] = max(self._passed.get(lane, 0.0), floor)

    def _pop(self, lane: Lane) -> Frame:
        frames = self._waiting[lane]
        frame = frames.pop(0)  # of two
        if not frames:
            del self._waiting[lane]
        return frame
