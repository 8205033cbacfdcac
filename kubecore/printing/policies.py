"""Columns and rows of the kinds that steer services, classes, quotas and certificates."""

from __future__ import annotations

from typing import Any

from kubecore.printing.durations import age, human_duration

Object = dict[str, Any]
UNSET = "<unset>"
# Upstream's: beyond this a row says how many more there are.
MAX_SHOWN = 3


def _name_and_age(obj: Object, now_s: float) -> tuple[str, str]:
    return str(obj["metadata"].get("name", "")), age(
        obj["metadata"].get("creationTimestamp"), now_s
    )


def endpoint_slice_cells(obj: Object, now_s: float) -> list[Any]:
    """Return the row of an EndpointSlice."""
    name, old = _name_and_age(obj, now_s)
    ports = [str(p["port"]) if p.get("port") else "*" for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [name, obj.get("addressType", ""), _few(ports), _few(addresses), old]


def _few(parts: list[str]) -> str:
    text = ",".join(parts[:MAX_SHOWN]) or UNSET
    more = len(parts) - MAX_SHOWN
    return f"{text} + {more} more..." if more > 0 else text


def runtime_class_cells(obj: Object, now_s: float) -> list[Any]:
    """Return the row of a RuntimeClass."""
    name, old = _name_and_age(obj, now_s)
    return [name, obj.get("handler", ""), old]


def priority_class_cells(obj: Object, now_s: float) -> list[Any]:
    """Return the row of a PriorityClass."""
    name, old = _name_and_age(obj, now_s)
    policy = obj.get("preemptionPolicy", "PreemptLowerPriority")
    return [name, obj.get("value", 0), bool(obj.get("globalDefault")), old, policy]


def quota_cells(obj: Object, now_s: float) -> list[Any]:
    """Return the row of a ResourceQuota."""
    name, old = _name_and_age(obj, now_s)
    status = obj.get("status") or {}
    used, hard = status.get("used") or {}, status.get("hard") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        shown = f"{resource}: {used.get(resource, '0')}/{hard[resource]}"
        (limits if resource.startswith("limits.") else requests).append(shown)
    return [name, ", ".join(requests), ", ".join(limits), old]


def signing_request_cells(obj: Object, now_s: float) -> list[Any]:
    """Return the row of a CertificateSigningRequest."""
    name, old = _name_and_age(obj, now_s)
    spec = obj.get("spec", {})
    seconds = spec.get("expirationSeconds")
    duration = "<none>" if seconds is None else human_duration(float(seconds))
    return [
        name,
        old,
        spec.get("signerName", ""),
        spec.get("username", ""),
        duration,
        _condition(obj),
    ]


def _condition(request: Object) -> str:
    status = request.get("status") or {}
    words = {c.get("type") for c in status.get("conditions") or ()}
    known = ("Denied", "Approved")
    shown = [next((word for word in known if word in words), "Pending")]
    shown += ["Failed"] if "Failed" in words else []
    return ",".join([*shown, *(["Issued"] if status.get("certificate") else [])])
