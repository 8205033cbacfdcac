"""The node's conditions in kubelet's words, and the Events of their changes; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from corekit.timestamps import rfc3339
from edgecore.edged.usage import RuntimeHealth

Condition = dict[str, Any]
# type -> (reason, message) when it holds, and when it does not.
_PRESSURE_WORDS = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
_READY = ("KubeletReady", "kubelet is posting ready status")
_NOT_READY = "KubeletNotReady"
# The conditions of a runtime that a node needs; a runtime may have others of its own.
_NEEDED = {
    "RuntimeReady": "container runtime not ready",
    "NetworkReady": "container runtime network not ready",
}
# (type, holds) -> reason of the Event when it became so.
_EVENTS = {
    ("Ready", True): "NodeReady",
    ("Ready", False): "NodeNotReady",
    ("MemoryPressure", True): "NodeHasInsufficientMemory",
    ("MemoryPressure", False): "NodeHasSufficientMemory",
    ("DiskPressure", True): "NodeHasDiskPressure",
    ("DiskPressure", False): "NodeHasNoDiskPressure",
    ("PIDPressure", True): "NodeHasInsufficientPID",
    ("PIDPressure", False): "NodeHasSufficientPID",
}


def not_ready_because(health: RuntimeHealth | None) -> str:
    """Return why the node is not ready, "" if it is; None: the runtime does not answer."""
    if health is None:
        return "container runtime is down"
    problems = [
        f"{_NEEDED[c.type]}: {c.type}=false reason:{c.reason} message:{c.message}"
        for c in health.conditions
        if c.type in _NEEDED and not c.holds
    ]
    return "[" + ", ".join(problems) + "]" if len(problems) > 1 else "".join(problems)


def node_conditions(
    pressures: Collection[str], problem: str, before: Sequence[Condition], now_s: float
) -> list[Condition]:
    """Return the four conditions; `lastTransitionTime` moves only when a status does.

    Shapes:  pressures: those that hold. problem: why the node is not ready. before: as last reported.
    """
    wanted = [
        (kind, kind in pressures, words[kind not in pressures])
        for kind, words in _PRESSURE_WORDS.items()
    ]
    wanted.append(("Ready", not problem, (_NOT_READY, problem) if problem else _READY))
    known = {c["type"]: c for c in before}
    now = rfc3339(now_s)
    conditions: list[Condition] = []
    for kind, holds, (reason, message) in wanted:
        status = "True" if holds else "False"
        old = known.get(kind)
        same = old is not None and old["status"] == status
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": now,
                "lastTransitionTime": old["lastTransitionTime"] if old and same else now,
            }
        )
    return conditions


def transitions(
    before: Sequence[Condition], after: Sequence[Condition], node_name: str
) -> list[tuple[str, str]]:
    """Return (reason, message) of the Events for what changed; of everything if nothing was known."""
    known: Mapping[str, str] = {c["type"]: c["status"] for c in before}
    changed = (c for c in after if known.get(c["type"]) != c["status"])
    reasons = (_EVENTS[c["type"], c["status"] == "True"] for c in changed)
    return [(reason, f"Node {node_name} status is now: {reason}") for reason in reasons]
