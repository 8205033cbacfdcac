"""Asks all probes of a node when they are due: one schedule, a task only while a question is open."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from typing import Protocol

from corekit.errors import EdgeError
from edgecore.edged.machine.probing import Answer, ContainerProbe
from edgecore.edged.probes.checks import Finding, Unanswerable, check
from edgecore.edged.runtime import ContainerRuntime, RuntimeUnavailableError

logger = logging.getLogger(__name__)

# A command costs the runtime a process; a hundred at once would starve the containers that they ask.
EXEC_SLOTS = 16
# A question over the network costs a socket; hosts that do not answer must not hold back those that do.
NETWORK_SLOTS = 256


class Subject(Protocol):
    """Whose probe it is."""

    @property
    def probe_address(self) -> str:
        """Return the pod's address, "" without one."""

    def may_be_asked(self, probe: ContainerProbe) -> bool:
        """Return whether `probe` is to be asked now."""

    def answered(self, probe: ContainerProbe, finding: Finding, asked_s: float) -> None:
        """Take an answer; Units: asked_s: `Prober.now()` when it was asked."""


class Prober:
    """One node's probes. `add` whatever is new or due earlier than it was."""

    def __init__(self, runtime: ContainerRuntime) -> None:
        self._runtime = runtime
        self._due: list[tuple[float, int, ContainerProbe, Subject]] = []
        self._numbers = itertools.count()
        self._asking: set[int] = set()  # ids of probes whose answer is awaited
        self._wake = asyncio.Event()
        self._exec_slots = asyncio.Semaphore(EXEC_SLOTS)
        self._network_slots = asyncio.Semaphore(NETWORK_SLOTS)

    @staticmethod
    def now() -> float:
        """Return the time by which probes are due; a clock that is set back does not move it."""
        return time.monotonic()

    def add(self, probe: ContainerProbe, subject: Subject) -> None:
        """Ask `probe` from its `due_s` on, again and again until it is over."""
        heapq.heappush(self._due, (probe.due_s, next(self._numbers), probe, subject))
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                now_s = self.now()
                while self._due and self._due[0][0] <= now_s:
                    due_s, _, probe, subject = heapq.heappop(self._due)
                    # An entry is stale if the probe has moved, ended, or is being asked already.
                    if probe.over or due_s != probe.due_s or id(probe) in self._asking:
                        continue
                    if subject.may_be_asked(probe):
                        self._asking.add(id(probe))
                        group.create_task(self._ask(probe, subject))
                    else:
                        probe.due_s = now_s + probe.spec.period_s
                        self.add(probe, subject)
                await self._sleep()

    async def _sleep(self) -> None:
        limit_s = self._due[0][0] - self.now() if self._due else None
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _ask(self, probe: ContainerProbe, subject: Subject) -> None:
        slots = self._exec_slots if probe.spec.exec is not None else self._network_slots
        try:
            async with slots:
                asked_s = self.now()
                finding = await self._find(probe, subject)
            subject.answered(probe, finding, asked_s)
        finally:
            self._asking.discard(id(probe))
        if not probe.over:
            self.add(probe, subject)

    async def _find(self, probe: ContainerProbe, subject: Subject) -> Finding:
        if probe.over:  # its container ended while it waited for a slot
            return Finding(Answer.UNKNOWN)
        try:
            return await check(
                self._runtime,
                probe.spec,
                probe.container,
                probe.container_id,
                subject.probe_address,
            )
        except RuntimeUnavailableError:
            return Finding(Answer.UNKNOWN)  # said once for all
        except (EdgeError, Unanswerable, OSError, ValueError) as exc:
            return Finding(Answer.UNKNOWN, str(exc))
