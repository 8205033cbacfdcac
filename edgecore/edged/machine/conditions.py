"""The conditions of a pod, in kubelet's words; pure."""

from __future__ import annotations

from typing import Any

from corekit.timestamps import rfc3339
from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.spec.podspec import Pod

Status = dict[str, Any]
_TERMINAL = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}


def conditions(
    pod: Pod,
    phase: str,
    inits: list[Status],
    apps: list[Status],
    memory: PodMemory,
    *,
    sandbox_up: bool,
    now_s: float,
) -> list[Status]:
    """Return the conditions that a node owns; `lastTransitionTime` moves only when the status does."""
    ready = _containers_ready(pod, phase, inits, apps)
    wanted = [
        _condition("PodReadyToStartContainers", "True" if sandbox_up else "False"),
        _initialized(pod, phase, inits, apps),
        {"type": "Ready", **_gated(pod, ready)},
        {"type": "ContainersReady", **ready},
        _condition("PodScheduled", "True"),
    ]
    if memory.disruption:
        wanted.append(
            _condition("DisruptionTarget", "True", "TerminationByKubelet", memory.disruption)
        )
    before = {c["type"]: c for c in memory.status.get("conditions", ())}
    for condition in wanted:
        known = before.get(condition["type"])
        unchanged = known is not None and known["status"] == condition["status"]
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = (
            known["lastTransitionTime"] if known and unchanged else rfc3339(now_s)
        )
    return wanted


def _condition(kind: str, status: str, reason: str = "", message: str = "") -> Status:
    condition: Status = {"type": kind, "status": status}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _gated(pod: Pod, ready: Status) -> Status:
    """Return the status of Ready: that of the containers, unless a readiness gate is closed."""
    if ready["status"] != "True":
        return ready
    known = {c.type: c.status for c in pod.status.conditions}
    problems = []
    for gate in (g.condition_type for g in pod.spec.readiness_gates):
        if gate not in known:
            problems.append(
                f'corresponding condition of pod readiness gate "{gate}" does not exist.'
            )
        elif known[gate] != "True":
            problems.append(
                f'the status of pod readiness gate "{gate}" is not "True", but {known[gate]}'
            )
    if not problems:
        return ready
    return {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(problems)}


def _initialized(pod: Pod, phase: str, inits: list[Status], apps: list[Status]) -> Status:
    if phase == "Succeeded":
        return _condition("Initialized", "True", "PodCompleted")
    sidecars = {c.name for c in pod.spec.init_containers if c.is_sidecar}
    waiting = [s["name"] for s in inits if not s["started" if s["name"] in sidecars else "ready"]]
    begun = any("running" in s["state"] or "terminated" in s["state"] for s in apps)
    if waiting and not begun:
        message = f"containers with incomplete status: [{' '.join(waiting)}]"
        return _condition("Initialized", "False", "ContainersNotInitialized", message)
    return _condition("Initialized", "True")


def _containers_ready(pod: Pod, phase: str, inits: list[Status], apps: list[Status]) -> Status:
    if phase in _TERMINAL:
        return {"status": "False", "reason": _TERMINAL[phase]}
    sidecars = {c.name for c in pod.spec.init_containers if c.is_sidecar}
    unready = [s["name"] for s in inits if s["name"] in sidecars and not s["ready"]]
    unready += [s["name"] for s in apps if not s["ready"]]
    if unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        return {"status": "False", "reason": "ContainersNotReady", "message": message}
    return {"status": "True"}
