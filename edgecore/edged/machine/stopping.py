"""How what runs is ended: all of a pod in its order, or one sandbox that is replaced; pure."""

from __future__ import annotations

from edgecore.edged.machine.actions import Action, RemoveSandbox, StopContainer, StopSandbox
from edgecore.edged.machine.view import View
from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.lifecycle import Probe
from edgecore.edged.spec.podspec import Container, Pod


def teardown(
    view: View, grace_s: float, *, remove: bool, pod: Pod | None = None, message: str = ""
) -> list[Action]:
    """Return what ends everything that runs; with `remove`, nothing stays in the runtime.

    What runs is stopped first and alone: how it ended must be observed before it is removed. Sidecars end
    after the app containers, the last one first; without the pod's spec all end together.
    """
    alive = view.alive
    actions: list[Action] = [
        StopContainer(
            c.id,
            c.name,
            grace_s,
            message or f"Stopping container {c.name}",
            _before(c, alive, pod) if pod is not None else (),
        )
        for c in alive
    ]
    if any(c.phase is ContainerPhase.RUNNING for c in alive):
        return actions
    actions += [StopSandbox(s.id) for s in view.sandboxes if s.ready or remove]
    if remove:
        actions += [RemoveSandbox(s.id) for s in view.sandboxes]
    return actions


def clear_sandbox(sandbox_id: str, alive: list[ContainerState], pod: Pod) -> list[Action]:
    """Return what ends and removes a sandbox that another one replaces."""
    grace_s = pod.spec.termination_grace_period_seconds
    stops: list[Action] = [
        StopContainer(
            c.id,
            c.name,
            grace_s,
            "Pod sandbox changed, it will be killed and re-created.",
            _before(c, alive, pod),
        )
        for c in alive
    ]
    return [*stops, StopSandbox(sandbox_id), RemoveSandbox(sandbox_id)]


def failed_probe_stop(
    pod: Pod, container: Container, state: ContainerState, kind: str
) -> StopContainer:
    """Return the stop of a container that failed its `kind` probe."""
    restart = container.is_sidecar or pod.spec.restart_policy != "Never"
    message = f"Container {container.name} failed {kind} probe"
    if restart:
        message += ", will be restarted"
    probe = container.startup_probe if kind == "startup" else container.liveness_probe
    return StopContainer(state.id, container.name, _grace_s(pod, probe), message, restart=restart)


def changed_image_stop(pod: Pod, container: Container, state: ContainerState) -> StopContainer:
    """Return the stop of a container whose image was changed in place."""
    message = f"Container {container.name} definition changed, will be restarted"
    grace_s = pod.spec.termination_grace_period_seconds
    return StopContainer(state.id, container.name, grace_s, message, restart=True)


def _grace_s(pod: Pod, probe: Probe | None) -> float:
    own = probe.termination_grace_period_seconds if probe is not None else None
    return pod.spec.termination_grace_period_seconds if own is None else own


def _before(container: ContainerState, alive: list[ContainerState], pod: Pod) -> tuple[str, ...]:
    """Return the ids of what has to end before `container`, if that is a sidecar."""
    sidecars = [c.name for c in pod.spec.init_containers if c.is_sidecar]
    if container.name not in sidecars:
        return ()
    later = {c.name for c in pod.spec.containers}
    later |= set(sidecars[sidecars.index(container.name) + 1 :])
    return tuple(c.id for c in alive if c.name in later)
