"""What a node's silence and conditions mean for its status, its taints and its pods. Pure."""

from __future__ import annotations

from typing import Any

from corekit.timestamps import rfc3339
from kubecore.controllers.placement import NOT_READY_TAINT, UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT

Object = dict[str, Any]
CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PREFIX = "node.kubernetes.io/"
_PRESSURE_TAINTS = {
    "MemoryPressure": _PREFIX + "memory-pressure",
    "DiskPressure": _PREFIX + "disk-pressure",
    "PIDPressure": _PREFIX + "pid-pressure",
    "NetworkUnavailable": _PREFIX + "network-unavailable",
}
# The taints that this controller owns; all others are left as they are.
_OWNED = frozenset(
    {NOT_READY_TAINT, UNREACHABLE_TAINT, UNSCHEDULABLE_TAINT, *_PRESSURE_TAINTS.values()}
)


def condition_of(obj: Object, kind: str) -> Object:
    """Return the condition `kind` of a node or pod, {} if it has none."""
    conditions = obj.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), {})


def heartbeat_of(node: Object) -> object:
    """Return the node's own sign of life in its status: it changes when the node posts."""
    ready = condition_of(node, "Ready")
    # Our own verdict is no sign of life.
    return None if ready.get("reason") == "NodeStatusUnknown" else ready.get("lastHeartbeatTime")


def silence_patch(node: Object, now_s: float) -> Object | None:
    """Return the strategic status patch that makes a silent node Unknown, or None if it is already."""
    changed = []
    for kind in CONDITIONS:
        before = condition_of(node, kind)
        if before.get("status") == "Unknown":
            continue
        never = not before
        condition = {
            "type": kind,
            "status": "Unknown",
            "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
            "message": "Kubelet never posted node status."
            if never
            else "Kubelet stopped posting node status.",
            "lastTransitionTime": rfc3339(now_s),
        }
        if never:
            condition["lastHeartbeatTime"] = node["metadata"].get(
                "creationTimestamp", rfc3339(now_s)
            )
        changed.append(condition)
    return {"status": {"conditions": changed}} if changed else None


def taints_patch(node: Object, now_s: float) -> Object | None:
    """Return the merge patch that gives a node the taints of its conditions, or None if it has them."""
    before = node.get("spec", {}).get("taints") or []
    wanted = _wanted_taints(node)
    kept = [t for t in before if t.get("key") not in _OWNED or _identity(t) in wanted]
    have = {_identity(t) for t in kept}
    stamp = rfc3339(now_s)
    added = [
        {"key": key, "effect": effect, "timeAdded": stamp}
        for key, effect in wanted
        if (key, effect) not in have
    ]
    if not added and len(kept) == len(before):
        return None
    return {"spec": {"taints": [*kept, *added] or None}}


def _identity(taint: Object) -> tuple[str, str]:
    return str(taint.get("key")), str(taint.get("effect"))


def _wanted_taints(node: Object) -> list[tuple[str, str]]:
    """Return the (key, effect) that the conditions call for."""
    wanted: list[tuple[str, str]] = []
    ready = condition_of(node, "Ready").get("status")
    if ready != "True":
        # A node that never posted has no Ready condition yet: it is not ready, not unreachable.
        key = UNREACHABLE_TAINT if ready == "Unknown" else NOT_READY_TAINT
        wanted += [(key, "NoSchedule"), (key, "NoExecute")]
    wanted += [
        (key, "NoSchedule")
        for kind, key in _PRESSURE_TAINTS.items()
        if condition_of(node, kind).get("status") == "True"
    ]
    if node.get("spec", {}).get("unschedulable"):
        wanted.append((UNSCHEDULABLE_TAINT, "NoSchedule"))
    return wanted


def not_ready_patch(pod: Object, now_s: float) -> Object | None:
    """Return the strategic status patch for a pod whose node is not ready, or None if nothing changes."""
    if condition_of(pod, "Ready").get("status") != "True":
        return None
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(now_s)}
    return {"status": {"conditions": [condition]}}
