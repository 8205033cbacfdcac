"""The pod state machine: from (spec, what runs, memory, now) to the next actions. Pure: no I/O, no clock.

The order of decisions is kubelet's: end, deadline, completion, sandbox, init containers, app containers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecore.edged.machine.backoff import crash_hold, failure_hold, next_back_off
from edgecore.edged.machine.memory import BackOff, PodMemory, Waiting
from edgecore.edged.machine.view import View
from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.podspec import Container, Pod


@dataclass(frozen=True)
class RunSandbox:
    """Make the pod's sandbox."""

    attempt: int


@dataclass(frozen=True)
class StopSandbox:
    """Stop a sandbox and give back its network; its dead containers stay for their logs."""

    id: str


@dataclass(frozen=True)
class RemoveSandbox:
    """Remove a sandbox with its containers."""

    id: str


@dataclass(frozen=True)
class StartContainer:
    """Fetch the image if the policy says so, then create and start; `back_off` is kept once it was tried."""

    name: str
    attempt: int
    back_off: BackOff | None = None


@dataclass(frozen=True)
class StopContainer:
    """SIGTERM, grace, SIGKILL. Several in a row stop at the same time."""

    id: str
    name: str
    grace_s: float
    message: str


@dataclass(frozen=True)
class RemoveContainer:
    """Remove a container that will not be looked at again."""

    id: str


Action = RunSandbox | StopSandbox | RemoveSandbox | StartContainer | StopContainer | RemoveContainer


@dataclass
class Plan:
    """What to do now, why the rest waits, and when to look again.

    Shapes:  holds: container name -> why it is not started now. outcome: set when the pod has just ended.
    """

    actions: list[Action] = field(default_factory=list)
    holds: dict[str, Waiting] = field(default_factory=dict)
    wake_s: float | None = None
    outcome: str = ""
    reason: str = ""
    message: str = ""

    def wake_at(self, moment_s: float) -> None:
        """Look again at `moment_s` at the latest."""
        self.wake_s = moment_s if self.wake_s is None else min(self.wake_s, moment_s)


def plan(pod: Pod, view: View, memory: PodMemory, now_s: float) -> Plan:
    """Return the next step of `pod`. Doing it and planning again converges: then there are no actions."""
    if pod.is_deleting:
        return Plan(teardown(view, pod.grace_s, remove=True))
    if memory.outcome:
        own_s = float(pod.spec.termination_grace_period_seconds)
        grace_s = own_s if memory.end_grace_s is None else min(own_s, memory.end_grace_s)
        return Plan(teardown(view, grace_s, remove=False))
    step = Plan()
    if _past_deadline(pod, memory, now_s, step) or _has_ended(pod, view, step):
        return step
    if view.sandbox is None or not view.sandbox.ready:
        _replace_sandbox(pod, view, step)
        return step
    for stale in view.stale:
        step.actions += _clear(stale.id, [c for c in stale.containers if _alive(c)], pod)
    if _init_done(pod, view, memory, now_s, step):
        for container in pod.spec.containers:
            _advance(pod, container, view, memory, now_s, step)
    step.actions += _superseded(view)
    return step


def teardown(view: View, grace_s: float, *, remove: bool) -> list[Action]:
    """Return what ends everything that runs; with `remove`, nothing stays in the runtime.

    What runs is stopped first and alone: how it ended must be observed before it is removed.
    """
    actions: list[Action] = [
        StopContainer(c.id, c.name, grace_s, f"Stopping container {c.name}") for c in view.alive
    ]
    if any(c.phase is ContainerPhase.RUNNING for c in view.alive):
        return actions
    actions += [StopSandbox(s.id) for s in view.sandboxes if s.ready or remove]
    if remove:
        actions += [RemoveSandbox(s.id) for s in view.sandboxes]
    return actions


def restarts(pod: Pod, container: Container, state: ContainerState) -> bool:
    """Return whether the restart policy starts `container` again after `state`."""
    if state.phase is not ContainerPhase.EXITED:
        return state.phase is not ContainerPhase.RUNNING
    if container.is_sidecar or pod.spec.restart_policy == "Always":
        return True
    return pod.spec.restart_policy == "OnFailure" and state.exit_code != 0


def _alive(container: ContainerState) -> bool:
    return container.phase in (ContainerPhase.RUNNING, ContainerPhase.UNKNOWN)


def _past_deadline(pod: Pod, memory: PodMemory, now_s: float, step: Plan) -> bool:
    limit_s = pod.spec.active_deadline_seconds
    if limit_s is None or not memory.start_s:
        return False
    if now_s < memory.start_s + limit_s:
        step.wake_at(memory.start_s + limit_s)
        return False
    step.outcome, step.reason = "Failed", "DeadlineExceeded"
    step.message = "Pod was active on the node longer than the specified deadline"
    return True


def _has_ended(pod: Pod, view: View, step: Plan) -> bool:
    """Note the outcome if no container of `pod` will ever run again."""
    if pod.spec.restart_policy == "Always":
        return False
    if pod.spec.restart_policy == "Never" and _lost_with_sandbox(pod, view):
        step.outcome = "Failed"
        return True
    states = [view.latest.get(c.name) for c in pod.spec.containers]
    ended = [
        s is not None and s.phase is ContainerPhase.EXITED and not restarts(pod, c, s)
        for c, s in zip(pod.spec.containers, states, strict=True)
    ]
    if all(ended):
        good = all(s is not None and s.exit_code == 0 for s in states)
        step.outcome = "Succeeded" if good else "Failed"
    elif pod.spec.restart_policy == "Never" and _init_failed(pod, view):
        step.outcome = "Failed"
    return bool(step.outcome)


def _init_failed(pod: Pod, view: View) -> bool:
    if any(view.in_sandbox(c.name) for c in pod.spec.containers):
        return False
    states = [view.latest.get(c.name) for c in pod.spec.init_containers if not c.is_sidecar]
    return any(s and s.phase is ContainerPhase.EXITED and s.exit_code for s in states)


def _lost_with_sandbox(pod: Pod, view: View) -> bool:
    """Return whether a pod that never restarts lost its sandbox after it had started something."""
    usable = view.sandbox is not None and view.sandbox.ready
    started = [view.latest[c.name] for c in pod.spec.containers if c.name in view.latest]
    done = all(s.phase is ContainerPhase.EXITED and not s.exit_code for s in started)
    return not usable and bool(started) and not (done and len(started) == len(pod.spec.containers))


def _replace_sandbox(pod: Pod, view: View, step: Plan) -> None:
    for old in view.sandboxes:  # a dead sandbox may still hold a network and, in theory, processes
        step.actions += _clear(old.id, [c for c in old.containers if _alive(c)], pod)
    attempt = max((s.attempt for s in view.sandboxes), default=-1) + 1
    step.actions.append(RunSandbox(attempt))


def _clear(sandbox_id: str, alive: list[ContainerState], pod: Pod) -> list[Action]:
    grace_s = pod.spec.termination_grace_period_seconds
    stops: list[Action] = [
        StopContainer(
            c.id, c.name, grace_s, "Pod sandbox changed, it will be killed and re-created."
        )
        for c in alive
    ]
    return [*stops, StopSandbox(sandbox_id), RemoveSandbox(sandbox_id)]


def _init_done(pod: Pod, view: View, memory: PodMemory, now_s: float, step: Plan) -> bool:
    """Plan the next init container; return whether the app containers may start."""
    begun = any(view.in_sandbox(c.name) for c in pod.spec.containers)
    for container in pod.spec.init_containers:
        state = view.in_sandbox(container.name)
        if begun and not container.is_sidecar:
            continue  # kubelet too: once an app container exists, init containers are over
        finished = state is not None and state.phase is ContainerPhase.EXITED
        if finished and state is not None and state.exit_code == 0 and not container.is_sidecar:
            continue
        running = state is not None and state.phase is ContainerPhase.RUNNING
        if not running:
            _start(pod, container, view, memory, now_s, step)
        if not (container.is_sidecar and running) and not begun:
            return False
    return True


def _advance(
    pod: Pod, container: Container, view: View, memory: PodMemory, now_s: float, step: Plan
) -> None:
    """Plan one app container."""
    state = view.latest.get(container.name)
    here = view.in_sandbox(container.name)
    if state is not None and state.phase is ContainerPhase.RUNNING and here is not None:
        made_from = memory.of(container.name).image
        if made_from and made_from != container.image:
            grace_s = pod.spec.termination_grace_period_seconds
            message = f"Container {container.name} definition changed, will be restarted"
            step.actions.append(StopContainer(state.id, container.name, grace_s, message))
        return
    if state is None or restarts(pod, container, state) or state.phase is ContainerPhase.RUNNING:
        _start(pod, container, view, memory, now_s, step)


def _start(
    pod: Pod, container: Container, view: View, memory: PodMemory, now_s: float, step: Plan
) -> None:
    """Plan a start, or hold it back while a back-off lasts."""
    note, state = memory.of(container.name), view.latest.get(container.name)
    held = failure_hold(container, note, now_s) or crash_hold(pod, container, note, state, now_s)
    if held is not None:
        step.holds[container.name] = held
        step.wake_at(held.retry_s)
        return
    here = view.in_sandbox(container.name)
    if here is not None and here.phase in (ContainerPhase.CREATED, ContainerPhase.UNKNOWN):
        # Created and not started: edgecore or the runtime ended in between. Its name must be free again.
        step.actions.append(RemoveContainer(here.id))
    attempt = note.attempt + 1
    if here is not None and here.phase is ContainerPhase.CREATED:
        attempt = here.attempt  # it never ran, so this is no restart
    back_off = next_back_off(note, state)
    step.actions.append(StartContainer(container.name, max(attempt, 0), back_off))


def _superseded(view: View) -> list[Action]:
    """Return the removal of dead containers that are neither the newest nor the one before it."""
    if view.sandbox is None:
        return []
    removals: list[Action] = []
    for container in view.sandbox.containers:
        newest = view.latest.get(container.name)
        if newest is not None and container.attempt < newest.attempt - 1 and not _alive(container):
            removals.append(RemoveContainer(container.id))
    return removals
