"""What one node reports, on its way to the sink: newest per key, a few writes at once, frames done in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudcore.seams import ReportSink
from corekit.failpoints import failpoint
from corekit.lifecycle import start_in
from corekit.logs import log_change
from synccore.messages import Delta, Lane, ObjectKey, Op
from synccore.session import Received

logger = logging.getLogger(__name__)

# Writes in flight for one node: enough to hide the latency of the Kubernetes API, too few to crowd out other nodes.
# Each lane has its own, so that writes that are being retried hold up nothing but their own lane. Control has two
# keys, lease and node, and a slot for each.
WRITERS = {Lane.CONTROL: 2, Lane.PODS: 4, Lane.TWINS: 2, Lane.SAMPLES: 2}

_Slot = tuple[ObjectKey, int]


@dataclass(slots=True)
class _Frame:
    number: int
    waiting: int


@dataclass(slots=True)
class _Pending:
    delta: Delta
    lane: Lane
    frames: list[tuple[Lane, _Frame]] = field(default_factory=list)


class ReportQueue:
    """Writes a node's reports; calls `done(lane, number)` when all of a frame, and of those before it, is durable.

    Bounded: the session admits a window of frames per lane, and nothing else enters.
    A state report that is overtaken by a newer one of its key before it was written is never written; its
    frame is done when the newer one is.
    """

    def __init__(self, node: str, sink: ReportSink, done: Callable[[Lane, int], None]) -> None:
        self._node, self._sink, self._done = node, sink, done
        self._frames: dict[Lane, list[_Frame]] = {}
        self._pending: dict[_Slot, _Pending] = {}
        self._queued: dict[Lane, dict[_Slot, None]] = {}
        self._writing: set[_Slot] = set()
        self._busy: dict[Lane, int] = {}
        self._group: asyncio.TaskGroup | None = None

    async def put(self, received: Received) -> None:
        """Take a frame."""
        lane, frame = received.lane, _Frame(received.number, 0)
        self._frames.setdefault(lane, []).append(frame)
        for delta in received.deltas:
            # A log entry has a sequence and so a slot of its own; states of a key share one.
            slot = (delta.key, delta.sequence if delta.op is Op.APPEND else 0)
            pending = self._pending.setdefault(slot, _Pending(delta, lane))
            if (
                pending.lane is not lane
            ):  # a key has one lane; a peer that errs must not turn back time
                del self._queued[pending.lane][slot]
            pending.delta, pending.lane = delta, lane
            self._queued.setdefault(lane, {})[slot] = None
            pending.frames.append((lane, frame))
            frame.waiting += 1
            log_change(logger, "received", delta.key, delta.change_id, node=self._node)
        self._finish(lane)
        self._start()

    def hold(self, received: Received) -> None:
        """Note a frame that somebody else works on: acknowledged in its turn, after `release()`."""
        frame = _Frame(received.number, 1)
        self._frames.setdefault(received.lane, []).append(frame)

    def release(self, lane: Lane, number: int) -> None:
        """Say that a frame of `hold()` is durable."""
        for frame in self._frames[lane]:
            if frame.number == number:
                frame.waiting = 0
                break
        self._finish(lane)

    def end(self) -> None:
        """Let go of who asked; nothing is written any more."""
        self._group, self._done = None, lambda _lane, _number: None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Write from now on, in tasks of `group`; without work there are none."""
        self._group = group
        self._start()

    def _start(self) -> None:
        if self._group is None:
            return
        for lane, queued in self._queued.items():
            while self._busy.get(lane, 0) < WRITERS[lane]:
                # Two writes of one key at once could end in the wrong order.
                slot = next((slot for slot in queued if slot not in self._writing), None)
                if slot is None:
                    break
                self._writing.add(slot)
                self._busy[lane] = self._busy.get(lane, 0) + 1
                del queued[slot]
                start_in(self._group, self._write(lane, slot, self._pending.pop(slot)))

    async def _write(self, lane: Lane, slot: _Slot, pending: _Pending) -> None:
        delta = pending.delta
        failpoint("cloudhub.before_write")
        await self._sink.write(self._node, delta)
        failpoint("cloudhub.before_ack")
        log_change(logger, "written", delta.key, delta.change_id, node=self._node)
        self._writing.discard(slot)
        self._busy[lane] -= 1
        for frame_lane, frame in pending.frames:
            frame.waiting -= 1
            self._finish(frame_lane)
        self._start()

    def _finish(self, lane: Lane) -> None:
        frames, count = self._frames[lane], 0
        while count < len(frames) and frames[count].waiting == 0:
            count += 1
        if count:
            last = frames[count - 1].number
            del frames[:count]
            self._done(lane, last)
            failpoint("cloudhub.after_ack")
