"""The pod state machine: from (spec, what runs, memory, health, now) to the next actions. Pure: no I/O, no clock.

The order of decisions is kubelet's: end, deadline, completion, sandbox, ephemeral, init and app containers.
"""

from __future__ import annotations

from edgecore.edged.machine.actions import (
    Action,
    Plan,
    RemoveContainer,
    RemoveSandbox,
    RunSandbox,
    StartContainer,
    StopContainer,
    StopSandbox,
)
from edgecore.edged.machine.backoff import crash_hold, failure_hold, next_back_off
from edgecore.edged.machine.memory import ContainerMemory, PodMemory
from edgecore.edged.machine.probing import HEALTHY, Health
from edgecore.edged.machine.stopping import (
    changed_image_stop,
    clear_sandbox,
    failed_probe_stop,
    teardown,
)
from edgecore.edged.machine.view import View
from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.podspec import Container, Pod

__all__ = [
    "Action",
    "Plan",
    "RemoveContainer",
    "RemoveSandbox",
    "RunSandbox",
    "StartContainer",
    "StopContainer",
    "StopSandbox",
    "plan",
    "restarts",
    "teardown",
]


def plan(pod: Pod, view: View, memory: PodMemory, now_s: float, health: Health = HEALTHY) -> Plan:
    """Return the next step of `pod`. Doing it and planning again converges: then there are no actions."""
    if pod.is_deleting:
        return Plan(teardown(view, pod.grace_s, remove=True, pod=pod))
    if memory.outcome:
        own_s = float(pod.spec.termination_grace_period_seconds)
        grace_s = own_s if memory.end_grace_s is None else min(own_s, memory.end_grace_s)
        return Plan(teardown(view, grace_s, remove=memory.evicted, pod=pod))
    step = Plan()
    if _past_deadline(pod, memory, now_s, step) or _has_ended(pod, view, memory, step):
        return step
    if view.sandbox is None or not view.sandbox.ready:
        _replace_sandbox(pod, view, step)
        return step
    for stale in view.stale:
        step.actions += clear_sandbox(stale.id, [c for c in stale.containers if _alive(c)], pod)
    round_ = _Round(pod, view, memory, now_s, health, step)
    round_.debug()
    if round_.initialize():
        for container in pod.spec.containers:
            round_.advance(container)
    step.actions += _superseded(view)
    return step


def restarts(pod: Pod, container: Container, state: ContainerState, note: ContainerMemory) -> bool:
    """Return whether `container` is started again after `state`."""
    if container in pod.spec.ephemeral_containers:
        return state.phase is ContainerPhase.CREATED
    if state.phase is not ContainerPhase.EXITED:
        return state.phase is not ContainerPhase.RUNNING
    if note.restart == state.attempt:  # it was stopped to be started again
        return True
    if container.is_sidecar or pod.spec.restart_policy == "Always":
        return True
    return pod.spec.restart_policy == "OnFailure" and state.exit_code != 0


class _Round:
    """One look at the containers of a pod whose sandbox is ready."""

    def __init__(
        self,
        pod: Pod,
        view: View,
        memory: PodMemory,
        now_s: float,
        health: Health,
        step: Plan,
    ) -> None:
        self.pod, self.view, self.memory = pod, view, memory
        self.now_s, self.health, self.step = now_s, health, step

    def debug(self) -> None:
        """Start ephemeral containers that never ran: they need nothing but the sandbox."""
        for container in self.pod.spec.ephemeral_containers:
            state = self.view.latest.get(container.name)
            if state is None or state.phase is ContainerPhase.CREATED:
                self._start(container)

    def initialize(self) -> bool:
        """Plan the next init container and keep the sidecars; return whether the app containers may start.

        What comes before the last init container that this sandbox has seen has done its work.
        """
        inits = self.pod.spec.init_containers
        begun = any(self.view.in_sandbox(c.name) for c in self.pod.spec.containers)
        seen = [i for i, c in enumerate(inits) if self.view.in_sandbox(c.name)]
        current = len(inits) if begun else max(seen, default=0)
        for container in inits[:current]:
            if container.is_sidecar:
                self.advance(container)
        if current == len(inits):
            return True
        if not self._is_initialized(inits[current]):
            return False
        if current + 1 < len(inits):
            self._start(inits[current + 1])
            return False
        return True

    def advance(self, container: Container) -> None:
        """Plan one app container or sidecar."""
        state = self.view.latest.get(container.name)
        here = self.view.in_sandbox(container.name)
        if state is not None and state.phase is ContainerPhase.RUNNING and here is not None:
            made_from, kind = self.memory.of(container.name).image, self.health.failed.get(state.id)
            if made_from and made_from != container.image:
                self.step.actions.append(changed_image_stop(self.pod, container, state))
            elif kind:
                self.step.actions.append(failed_probe_stop(self.pod, container, state, kind))
        elif (
            state is None
            or state.phase is ContainerPhase.RUNNING
            or restarts(self.pod, container, state, self.memory.of(container.name))
        ):
            self._start(container)

    def _is_initialized(self, container: Container) -> bool:
        """Return whether `container` has done what the next one waits for; plan what it needs if not."""
        state = self.view.in_sandbox(container.name)
        if container.is_sidecar:
            self.advance(container)
            if state is None or state.phase is not ContainerPhase.RUNNING:
                return False
            waits = state.id in self.health.unstarted or container.name in self.health.starting
            return not waits and state.id not in self.health.failed
        if state is not None and state.phase is ContainerPhase.EXITED and not state.exit_code:
            return True
        if state is None or state.phase is not ContainerPhase.RUNNING:
            self._start(container)
        return False

    def _start(self, container: Container) -> None:
        """Plan a start, or hold it back while a back-off lasts."""
        note, state = self.memory.of(container.name), self.view.latest.get(container.name)
        held = failure_hold(container, note, self.now_s)
        if held is None and note.image in (
            "",
            container.image,
        ):  # a new image has failed nothing yet
            held = crash_hold(self.pod, container, note, state, self.now_s)
        if held is not None:
            self.step.holds[container.name] = held
            self.step.wake_at(held.retry_s)
            return
        here = self.view.in_sandbox(container.name)
        if here is not None and here.phase in (ContainerPhase.CREATED, ContainerPhase.UNKNOWN):
            # Created and not started: edgecore or the runtime ended in between. Its name must be free again.
            self.step.actions.append(RemoveContainer(here.id))
        attempt = note.attempt + 1
        if here is not None and here.phase is ContainerPhase.CREATED:
            attempt = here.attempt  # it never ran, so this is no restart
        back_off = next_back_off(note, state) if note.image in ("", container.image) else None
        self.step.actions.append(StartContainer(container.name, max(attempt, 0), back_off))


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


def _has_ended(pod: Pod, view: View, memory: PodMemory, step: Plan) -> bool:
    """Note the outcome if no container of `pod` will ever run again."""
    if pod.spec.restart_policy == "Always":
        return False
    if pod.spec.restart_policy == "Never" and _lost_with_sandbox(pod, view):
        step.outcome = "Failed"
        return True
    states = [view.latest.get(c.name) for c in pod.spec.containers]
    ended = [
        s is not None
        and s.phase is ContainerPhase.EXITED
        and not restarts(pod, c, s, memory.of(c.name))
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
        step.actions += clear_sandbox(old.id, [c for c in old.containers if _alive(c)], pod)
    attempt = max((s.attempt for s in view.sandboxes), default=-1) + 1
    step.actions.append(RunSandbox(attempt))


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
