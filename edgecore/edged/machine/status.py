"""Pod status as kubelet writes it, from what was observed and remembered; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from corekit.timestamps import rfc3339
from edgecore.edged.machine.conditions import conditions
from edgecore.edged.machine.memory import ContainerMemory, Exit, PodMemory, Waiting
from edgecore.edged.machine.planning import restarts
from edgecore.edged.machine.probing import HEALTHY, Health
from edgecore.edged.machine.view import LOST_EXIT_CODE, LOST_MESSAGE, LOST_REASON, View
from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.podspec import Container, Pod, VolumeMount
from edgecore.edged.spec.resources import qos_class

Status = dict[str, Any]
# kubelet's bound on all of a pod's termination messages, shared out among its containers.
TERMINATION_MESSAGES_BYTES = 12 << 10


@dataclass(frozen=True)
class Surroundings:
    """What a pod's status needs to know of the node.

    Shapes:  host_ips: the node's addresses, main one first. runtime_name: prefix of container ids.
    """

    host_ips: Sequence[str]
    runtime_name: str
    holds: Mapping[str, Waiting] = field(default_factory=dict)
    termination_messages: Mapping[str, str] = field(default_factory=dict)  # by container id
    health: Health = HEALTHY
    message_bytes: int = TERMINATION_MESSAGES_BYTES  # of one container


def pod_status(
    pod: Pod, view: View, memory: PodMemory, around: Surroundings, now_s: float
) -> Status:
    """Return `pod.status`; transition times of what did not change are taken from `memory.status`."""
    share = TERMINATION_MESSAGES_BYTES // len(pod.spec.every_container)
    around = replace(around, message_bytes=share)
    inits = [_container(pod, c, view, memory, around) for c in pod.spec.init_containers]
    apps = [_container(pod, c, view, memory, around) for c in pod.spec.containers]
    others = [_container(pod, c, view, memory, around) for c in pod.spec.ephemeral_containers]
    if memory.outcome and not view.alive:
        _close(inits, apps)
    phase = _phase(pod, memory, inits, apps)
    sandbox_up = view.sandbox is not None and view.sandbox.ready
    status: Status = {
        "phase": phase,
        "conditions": conditions(
            pod, phase, inits, apps, memory, sandbox_up=sandbox_up, now_s=now_s
        ),
        "startTime": rfc3339(memory.start_s),
        "qosClass": qos_class(pod),
    }
    if memory.outcome and memory.reason:
        status |= {"reason": memory.reason, "message": memory.message}
    if around.host_ips:
        status |= {"hostIP": around.host_ips[0], "hostIPs": [{"ip": ip} for ip in around.host_ips]}
    if ips := pod_ips(pod, view, around.host_ips):
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    elif "podIP" in memory.status:  # a pod that has ended keeps the address it had
        status |= {k: memory.status[k] for k in ("podIP", "podIPs")}
    if inits:
        status["initContainerStatuses"] = inits
    status["containerStatuses"] = apps
    if others:
        status["ephemeralContainerStatuses"] = others
    return status


def pod_ips(pod: Pod, view: View, host_ips: Sequence[str]) -> list[str]:
    """Return the pod's addresses; the node's if it shares its network, or if the runtime gives none."""
    if view.sandbox is None or not view.sandbox.ready:
        return []
    return list(view.sandbox.ips if view.sandbox.ips and not pod.spec.host_network else host_ips)


def _phase(pod: Pod, memory: PodMemory, inits: list[Status], apps: list[Status]) -> str:
    """Return kubelet's phase: a pod is terminal only once nothing of it runs."""
    running = any("running" in s["state"] for s in (*inits, *apps))  # sidecars too
    if memory.outcome and not running:
        return memory.outcome
    begun = any(_terminated(s) or "running" in s["state"] for s in apps)
    if not begun and not all(map(_is_initialized, pod.spec.init_containers, inits)):
        return "Pending"
    if any("waiting" in s["state"] and not _terminated(s) for s in apps):
        return "Pending"
    # Of a deleted pod the final phase is told with its end, when its volumes are gone.
    if running or pod.is_deleting or pod.spec.restart_policy == "Always":
        return "Running"
    good = all(_terminated(s).get("exitCode") == 0 for s in apps)
    if good:
        return "Succeeded"
    return "Failed" if pod.spec.restart_policy == "Never" else "Running"


def _is_initialized(spec: Container, status: Status) -> bool:
    return bool(status["started"] if spec.is_sidecar else status["ready"])


def _close(inits: list[Status], apps: list[Status]) -> None:
    """Give an end to containers of an ended pod that have none: one that was never made, or whose end was lost.

    kubelet's rule: init containers up to the last that was begun, and app containers once those were through.
    """
    if any(map(_terminated, apps)):
        reached = len(inits)
    else:
        reached = max((i + 1 for i, s in enumerate(inits) if _terminated(s)), default=0)
    through = reached == len(inits) and all(s["ready"] for s in inits[-1:])
    lost = [*inits[:reached], *(apps if through or any(map(_terminated, apps)) else ())]
    for status in lost:
        if "terminated" not in status["state"]:
            ended = {"exitCode": LOST_EXIT_CODE, "reason": LOST_REASON, "message": LOST_MESSAGE}
            status["state"] = {"terminated": {**ended, "startedAt": None, "finishedAt": None}}


def _terminated(status: Status) -> Status:
    found: Status = status["state"].get("terminated") or status["lastState"].get("terminated") or {}
    return found


def _container(
    pod: Pod, spec: Container, view: View, memory: PodMemory, around: Surroundings
) -> Status:
    note, state = memory.of(spec.name), view.latest.get(spec.name)
    now = _state(pod, spec, state, note, around)
    ident = state.id if state is not None else ""
    started = "running" in now and ident not in around.health.unstarted
    ready = started and ident not in around.health.unready
    if spec in pod.spec.ephemeral_containers:
        ready = False
    elif spec in pod.spec.init_containers and not spec.is_sidecar:
        ready = now.get("terminated", {}).get("exitCode") == 0
    status: Status = {
        "name": spec.name,
        "state": now,
        "lastState": _last_state(now, state, note, around),
        "ready": ready,
        "restartCount": max(note.attempt, 0),
        "image": (state.image if state else "") or spec.image,
        "imageID": state.image_id if state else "",
        "started": started,
    }
    if state is not None and state.id:
        status["containerID"] = f"{around.runtime_name}://{state.id}"
    if spec.volume_mounts:
        recursive = state.recursive_read_only if state is not None else frozenset()
        status["volumeMounts"] = [_mount(mount, recursive) for mount in spec.volume_mounts]
    if spec in pod.spec.ephemeral_containers:
        del status["started"]
    return status


def _mount(mount: VolumeMount, recursive: Collection[str]) -> Status:
    """Return a volumeMount as it came about. Shapes: recursive: where everything below is read-only too."""
    status: Status = {"name": mount.name, "mountPath": mount.mount_path}
    if mount.read_only:
        status["readOnly"] = True
        came = "Enabled" if mount.mount_path in recursive else "Disabled"
        status["recursiveReadOnly"] = came
    return status


def _state(
    pod: Pod,
    spec: Container,
    state: ContainerState | None,
    note: ContainerMemory,
    around: Surroundings,
) -> Status:
    starting = spec.name in around.health.starting
    if state is not None and state.phase is ContainerPhase.RUNNING and not starting:
        return {"running": {"startedAt": rfc3339(state.started_s)}}
    held = around.holds.get(spec.name)
    wanted = not is_final(pod, spec, state, note)
    if wanted and held is not None:
        return {"waiting": _waiting(held.reason, held.message)}
    ended = note.last_exit
    if state is not None and ended is not None and ended.attempt == state.attempt:
        return {"terminated": _ended(ended, around)}
    reason = "PodInitializing" if pod.spec.init_containers else "ContainerCreating"
    return {"waiting": _waiting(reason)}


def is_final(
    pod: Pod, spec: Container, state: ContainerState | None, note: ContainerMemory
) -> bool:
    """Return whether `spec` has ended and the restart policy leaves it so."""
    return state is not None and not restarts(pod, spec, state, note)


def _waiting(reason: str, message: str = "") -> Status:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _last_state(
    now: Status, state: ContainerState | None, note: ContainerMemory, around: Surroundings
) -> Status:
    ended = note.last_exit
    if "terminated" in now or (
        state is not None and ended is not None and ended.attempt > state.attempt
    ):  # the last exit is the state itself
        ended = note.previous_exit
    return {"terminated": _ended(ended, around)} if ended is not None else {}


def _ended(ended: Exit, around: Surroundings) -> Status:
    status: Status = {
        "exitCode": ended.exit_code,
        "reason": ended.reason or ("Error" if ended.exit_code else "Completed"),
        "startedAt": rfc3339(ended.started_s) if ended.started_s else None,
        "finishedAt": rfc3339(ended.finished_s) if ended.finished_s else None,
    }
    message = around.termination_messages.get(ended.id) or ended.message
    if message:
        status["message"] = _cut(message, around.message_bytes)
    if ended.id:
        status["containerID"] = f"{around.runtime_name}://{ended.id}"
    return status


def _cut(text: str, limit_bytes: int) -> str:
    return text.encode(errors="replace")[:limit_bytes].decode(errors="ignore")
