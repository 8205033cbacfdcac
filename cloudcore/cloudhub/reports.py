"""What one node reports, on its way to the sink: newest per key, a few writes at once, frames done in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cloudcore.seams import ReportSink
from corekit.failpoints import failpoint
from synccore.messages import Delta, Lane, ObjectKey, Op
from synccore.session import Received

# Writes to the Kubernetes API in flight for one node: enough to hide its latency, too few to crowd out others.
WRITERS = 8


@dataclass(slots=True)
class _Frame:
    number: int
    waiting: int


@dataclass(slots=True)
class _Pending:
    delta: Delta
    frames: list[tuple[Lane, _Frame]] = field(default_factory=list)


class ReportQueue:
    """Writes a node's reports; calls `done(lane, number)` when all of a frame, and of those before it, is durable.

    Bounded: the session admits a window of frames per lane, and nothing else enters.
    A state report that is overtaken by a newer one of its key before it was written is never written; its
    frame is done when the newer one is.
    """

    def __init__(self, node: str, sink: ReportSink, done: Callable[[Lane, int], None]) -> None:
        self._node, self._sink, self._done = node, sink, done
        self._frames: dict[Lane, deque[_Frame]] = {lane: deque() for lane in Lane}
        self._pending: dict[tuple[ObjectKey, int], _Pending] = {}
        self._writing: set[tuple[ObjectKey, int]] = set()
        self._wake = asyncio.Condition()

    async def put(self, received: Received) -> None:
        """Take a frame."""
        frame = _Frame(received.number, 0)
        self._frames[received.lane].append(frame)
        for delta in received.deltas:
            # A log entry has a sequence and so a slot of its own; states of a key share one.
            slot = (delta.key, delta.sequence if delta.op is Op.APPEND else 0)
            pending = self._pending.setdefault(slot, _Pending(delta))
            pending.delta = delta
            pending.frames.append((received.lane, frame))
            frame.waiting += 1
        self._finish(received.lane)
        async with self._wake:
            self._wake.notify_all()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write_next(), name=f"reports-{self._node}-{number}")

    async def _write_next(self) -> None:
        while True:
            async with self._wake:
                await self._wake.wait_for(lambda: self._ready_slot() is not None)
                slot = self._ready_slot()
                assert slot is not None
                pending = self._pending.pop(slot)
                self._writing.add(slot)
            failpoint("cloudhub.before_write")
            await self._sink.write(self._node, pending.delta)
            failpoint("cloudhub.before_ack")
            for lane, frame in pending.frames:
                frame.waiting -= 1
                self._finish(lane)
            async with self._wake:
                self._writing.discard(slot)
                self._wake.notify()

    def _ready_slot(self) -> tuple[ObjectKey, int] | None:
        # Two writes of one key at once could end in the wrong order.
        return next((slot for slot in self._pending if slot not in self._writing), None)

    def _finish(self, lane: Lane) -> None:
        frames, last = self._frames[lane], 0
        while frames and frames[0].waiting == 0:
            last = frames.popleft().number
        if last:
            self._done(lane, last)
            failpoint("cloudhub.after_ack")
