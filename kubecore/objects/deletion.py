"""What a delete does to an object: removes it, marks it, or nothing. Pure; the clock is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corekit.timestamps import parse_rfc3339, rfc3339
from kubecore.kinds.resource import Resource

Object = dict[str, Any]

DEFAULT_GRACE_S = 30
# The API takes any int64. deletionTimestamp has to stay a date, and runtimes count in nanoseconds (292 years).
MAX_GRACE_S = 100 * 365 * 86_400
ENDED_PHASES = ("Succeeded", "Failed")


@dataclass(frozen=True)
class DeleteOptions:
    """What a client may ask of a delete; empty strings ask nothing."""

    grace_period_s: int | None = None
    uid: str = ""
    resource_version: str = ""
    propagation: str = ""
    dry_run: bool = False


def mark(resource: Resource, obj: Object, options: DeleteOptions, now_s: float) -> bool:
    """Mark `obj`, in place, as being deleted; return whether that changed it.

    Afterwards `is_removable` tells whether it goes at once.
    """
    metadata = obj["metadata"]
    if "deletionTimestamp" in metadata:
        return _shorten(metadata, options.grace_period_s)
    grace_s = _pod_grace_s(obj, options.grace_period_s) if resource.storage_name == "pods" else 0
    metadata["deletionTimestamp"] = rfc3339(now_s + grace_s)
    metadata["deletionGracePeriodSeconds"] = grace_s
    if "generation" in metadata:
        metadata["generation"] += 1
    if resource.storage_name == "namespaces":
        obj.setdefault("status", {})["phase"] = "Terminating"
    return True


def is_removable(resource: Resource, obj: Object) -> bool:
    """Tell whether nothing holds a deleted object any more: no finalizer and no grace period."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if resource.storage_name == "namespaces" and obj.get("spec", {}).get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _pod_grace_s(pod: Object, asked_s: int | None) -> int:
    spec = pod.get("spec", {})
    # Nobody stops a pod that no node has, or that has ended.
    if not spec.get("nodeName") or pod.get("status", {}).get("phase") in ENDED_PHASES:
        return 0
    grace_s = (
        spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S) if asked_s is None else asked_s
    )
    return 1 if grace_s < 0 else min(int(grace_s), MAX_GRACE_S)


def _shorten(metadata: dict[str, Any], asked_s: int | None) -> bool:
    """A second delete may only shorten the grace period."""
    before_s = metadata.get("deletionGracePeriodSeconds") or 0
    if asked_s is None or asked_s >= before_s:
        return False
    after_s = max(asked_s, 0)
    ends_s = parse_rfc3339(metadata["deletionTimestamp"]) - before_s + after_s
    metadata["deletionTimestamp"] = rfc3339(ends_s)
    metadata["deletionGracePeriodSeconds"] = after_s
    return True
