"""A pod as it is: the runtime's sandboxes and containers, with what the runtime forgot put back; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgecore.edged.machine.memory import Exit, PodMemory
from edgecore.edged.runtime import ContainerPhase, ContainerState, SandboxState
from edgecore.edged.spec.podspec import Pod

# What kubelet reports for a container that it started and cannot find any more.
LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the pod was terminated"


@dataclass(frozen=True)
class View:
    """Observed state of one pod.

    Shapes:  sandbox: the newest, dead or alive. stale: all others. latest: container name -> its newest attempt,
             from a dead sandbox or from memory if need be.
    """

    sandbox: SandboxState | None = None
    stale: Sequence[SandboxState] = ()
    latest: dict[str, ContainerState] = field(default_factory=dict)

    @property
    def sandboxes(self) -> list[SandboxState]:
        """Return all sandboxes, newest first."""
        return [self.sandbox, *self.stale] if self.sandbox else list(self.stale)

    @property
    def alive(self) -> list[ContainerState]:
        """Return every container that may have a process, in any sandbox."""
        phases = (ContainerPhase.RUNNING, ContainerPhase.UNKNOWN)
        return [c for s in self.sandboxes for c in s.containers if c.phase in phases]

    def in_sandbox(self, name: str) -> ContainerState | None:
        """Return the newest attempt of `name` within the newest sandbox."""
        found = [c for c in self.sandbox.containers if c.name == name] if self.sandbox else []
        return max(found, key=_age, default=None)


def observe(pod: Pod, sandboxes: Sequence[SandboxState], memory: PodMemory) -> View:
    """Return the view of `pod`, and note in `memory` how its containers ended."""
    ordered = sorted(sandboxes, key=lambda s: (s.attempt, s.created_s), reverse=True)
    by_name: dict[str, list[ContainerState]] = {}
    for container in (c for s in ordered for c in s.containers):
        by_name.setdefault(container.name, []).append(container)
    latest: dict[str, ContainerState] = {}
    for spec in pod.spec.every_container:
        attempts = sorted(by_name.get(spec.name, ()), key=_age)
        for attempt in attempts:
            _remember(memory, attempt)
        if attempts and attempts[-1].attempt >= memory.of(spec.name).attempt:
            latest[spec.name] = attempts[-1]
            memory.of(spec.name).attempt = attempts[-1].attempt
            memory.of(spec.name).image = attempts[-1].spec_image or memory.of(spec.name).image
        elif memory.of(spec.name).attempt >= 0:
            latest[spec.name] = _recall(memory, spec.name)
    return View(ordered[0] if ordered else None, ordered[1:], latest)


def _age(container: ContainerState) -> tuple[int, float]:
    return container.attempt, container.created_s


def _remember(memory: PodMemory, container: ContainerState) -> None:
    note = memory.of(container.name)
    if container.phase is not ContainerPhase.EXITED:
        return
    ended = Exit(
        id=container.id,
        attempt=container.attempt,
        exit_code=container.exit_code,
        reason=container.reason,
        message=container.message,
        started_s=container.started_s,
        finished_s=container.finished_s,
        image=container.image,
        image_id=container.image_id,
    )
    if note.last_exit is None or ended.attempt > note.last_exit.attempt:
        note.previous_exit, note.last_exit = note.last_exit, ended
    elif ended.attempt == note.last_exit.attempt:
        note.last_exit = ended


def _recall(memory: PodMemory, name: str) -> ContainerState:
    """Return the container that ran last and that the runtime has lost, as exited."""
    note = memory.of(name)
    ended = note.last_exit
    if ended is None or ended.attempt != note.attempt:
        ended = Exit(
            attempt=note.attempt,
            exit_code=LOST_EXIT_CODE,
            reason=LOST_REASON,
            message=LOST_MESSAGE,
            image=note.image,
        )
    return ContainerState(
        id=ended.id,
        name=name,
        attempt=ended.attempt,
        phase=ContainerPhase.EXITED,
        image=ended.image,
        image_id=ended.image_id,
        created_s=ended.started_s,
        started_s=ended.started_s,
        finished_s=ended.finished_s,
        exit_code=ended.exit_code,
        reason=ended.reason,
        message=ended.message,
    )
