"""Group commit: whatever is asked for while one transaction is being synced goes into the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from corekit.errors import StoreError
from corekit.failpoints import failpoint
from edgecore.metamanager.transaction import Acknowledgement, Effects, Work
from edgecore.records import Commit

# Callers beyond these wait in `submit()`: a disk that is slow slows them, memory stays as it is.
MAX_QUEUED_COUNT = 1024
# Of one transaction, so that a lease never waits behind more than a few ms of a flood.
MAX_GROUP_BYTES = 4 << 20
_ROW_BYTES = 128


@dataclass(slots=True)
class _Job:
    work: Work
    size_bytes: int
    done: asyncio.Future[None]


class GroupWriter:
    """The queue in front of the one writer thread; everything but `write` runs on the event loop.

    `write` makes a group durable, on the thread; `landed` is told of its effects before callers go on;
    `counted` gets the size of each group and how much of it failed.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Work]], list[Effects | StoreError]],
        landed: Callable[[Effects], None],
        thread: ThreadPoolExecutor,
        counted: Callable[[int, int], None],
    ) -> None:
        self._write, self._landed, self._thread, self._counted = write, landed, thread, counted
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Job] = deque()
        self._room = asyncio.Semaphore(MAX_QUEUED_COUNT)
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def submit(self, work: Work) -> None:
        """Return once `work` is durable. A caller that is cancelled may find it stored all the same.

        Raises:  StoreError.
        """
        await self._room.acquire()
        if self._closed:
            self._room.release()
            raise StoreError("the store is closed")
        job = _Job(work, _size_bytes(work), self._loop.create_future())
        self._queue.append(job)
        if self._idle.is_set():
            self._idle.clear()
            self._start_group()
        await job.done

    async def close(self, timeout_s: float) -> None:
        """Take no more work and wait until what was taken is stored."""
        self._closed = True
        async with asyncio.timeout(timeout_s):
            await self._idle.wait()

    def _start_group(self) -> None:
        group = [self._queue.popleft()]
        size_bytes = group[0].size_bytes
        while self._queue and size_bytes + self._queue[0].size_bytes <= MAX_GROUP_BYTES:
            group.append(self._queue.popleft())
            size_bytes += group[-1].size_bytes
        stored = self._loop.run_in_executor(self._thread, self._write, [job.work for job in group])
        stored.add_done_callback(lambda future: self._finish_group(group, future))

    def _finish_group(
        self, group: list[_Job], stored: asyncio.Future[list[Effects | StoreError]]
    ) -> None:
        failpoint("store.before_settle")
        if bug := stored.exception():
            for job in group:
                self._settle(job, bug)
        else:
            outcomes = stored.result()
            self._counted(len(group), sum(isinstance(o, StoreError) for o in outcomes))
            for job, outcome in zip(group, outcomes, strict=True):
                if isinstance(outcome, Effects):
                    self._landed(outcome)
                self._settle(job, outcome if isinstance(outcome, StoreError) else None)
        if self._queue:
            self._start_group()
        else:
            self._idle.set()

    def _settle(self, job: _Job, problem: BaseException | None) -> None:
        self._room.release()
        if job.done.done():  # its caller was cancelled
            return
        if problem is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(problem)


def _size_bytes(work: Work) -> int:
    if isinstance(work, Acknowledgement):
        return _ROW_BYTES * len(work.rows)
    if not isinstance(work, Commit):
        return _ROW_BYTES
    bodies = [len(delta.body) for delta in work.deltas]
    bodies += [len(report.body) for report in work.reports]
    notes = [len(value or b"") for value in work.local.values()]
    return sum(bodies) + sum(notes) + _ROW_BYTES * (len(bodies) + len(notes))
