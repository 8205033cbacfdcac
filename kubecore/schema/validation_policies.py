"""Rules of runtime classes, priority classes, limit ranges, quotas and endpoint slices, with the API server's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubecore.values.addresses import family_of
from kubecore.values.invalid import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from kubecore.values.names import label_problem, qualified_name_problem
from kubecore.values.quantities import parse_quantity

Object = dict[str, Any]
# The classes that every cluster has, and what users may say themselves.
SYSTEM_PRIORITIES = {
    "system-cluster-critical": 2_000_000_000,
    "system-node-critical": 2_000_001_000,
}
MAX_PRIORITY = 1_000_000_000
SCOPES = ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating"]
SCOPES += ["PriorityClass", "Terminating"]
_POLICIES = ["Never", "PreemptLowerPriority"]
_AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_ORDER = (
    *(("min", "defaultRequest"), ("min", "default"), ("min", "max")),
    *(("defaultRequest", "default"), ("defaultRequest", "max"), ("default", "max")),
)
_QUOTA_NAMES = frozenset(
    {
        *("cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory"),
        *("requests.storage", "requests.ephemeral-storage", "limits.cpu", "limits.memory"),
        *("limits.ephemeral-storage", "persistentvolumeclaims", "pods", "services", "secrets"),
        *("configmaps", "resourcequotas", "replicationcontrollers", "services.nodeports"),
        "services.loadbalancers",
    }
)


def check_runtime_class(obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded RuntimeClass."""
    causes: list[Cause] = []
    handler = obj.get("handler", "")
    if problem := label_problem(handler):
        causes.append(invalid("handler", handler, problem))
    overhead = (obj.get("overhead") or {}).get("podFixed") or {}
    return causes + _not_negative(overhead, "overhead.podFixed")


def runtime_class_update(obj: Object, old: Object) -> list[Cause]:
    """Return what an update changes that may not change."""
    if obj.get("handler") == old.get("handler"):
        return []
    return [invalid("handler", obj.get("handler"), "field is immutable")]


def check_priority_class(obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded PriorityClass."""
    name, value = obj.get("metadata", {}).get("name", ""), obj.get("value", 0)
    causes: list[Cause] = []
    if obj.get("preemptionPolicy") not in _POLICIES:
        causes.append(not_supported("preemptionPolicy", obj.get("preemptionPolicy"), _POLICIES))
    if name.startswith("system-"):
        if SYSTEM_PRIORITIES.get(name) != value or obj.get("globalDefault"):
            rule = "priority class names with 'system-' prefix are reserved for system use only"
            causes.append(forbidden("metadata.name", rule))
    elif value > MAX_PRIORITY:
        rule = f"maximum allowed value of a user defined priority is {MAX_PRIORITY}"
        causes.append(forbidden("value", rule))
    return causes


def priority_class_update(obj: Object, old: Object) -> list[Cause]:
    """Return what an update changes that may not change."""
    causes: list[Cause] = []
    if obj.get("value") != old.get("value"):
        causes.append(forbidden("value", "may not be changed in an update."))
    if obj.get("preemptionPolicy") != old.get("preemptionPolicy"):
        policy = obj.get("preemptionPolicy")
        causes.append(invalid("preemptionPolicy", policy, "field is immutable"))
    return causes


def check_limit_range(obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded and defaulted LimitRange."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, item in enumerate(obj.get("spec", {}).get("limits") or []):
        field, kind = f"spec.limits[{index}]", item.get("type", "")
        if kind in seen:
            causes.append(duplicate(f"{field}.type", kind))
        seen.add(kind)
        if kind == "PersistentVolumeClaim" and not any(
            "storage" in (item.get(key) or {}) for key in ("min", "max")
        ):
            rule = "either minimum or maximum storage value is required, but neither was provided"
            causes.append(required(f"{field}.limits", rule))
        if kind == "Pod":
            rule = "may not be specified when `type` is 'Pod'"
            causes += [
                forbidden(f"{field}.{key}", rule)
                for key in ("default", "defaultRequest")
                if item.get(key)
            ]
        for key in _AMOUNTS:
            causes += _not_negative(item.get(key) or {}, f"{field}.{key}")
        causes += [] if causes else _check_order(item, field)
    return causes


def _check_order(item: Object, field: str) -> Iterator[Cause]:
    """Minimum, default request, default and maximum have to come in this order."""
    names = {"defaultRequest": "default request"}
    for low, high in _ORDER:
        for resource, text in (item.get(low) or {}).items():
            other = (item.get(high) or {}).get(resource)
            if other is None or parse_quantity(text) <= parse_quantity(other):
                continue
            rule = (
                f"{names.get(low, low)} value {text} is greater than {names.get(high, high)} "
                f"value {other}"
            )
            # As upstream: of a default that is below the minimum, the default is wrong.
            wrong = high if low == "min" and high != "max" else low
            yield invalid(f"{field}.{wrong}[{resource}]", text, rule)
    for resource, text in (item.get("maxLimitRequestRatio") or {}).items():
        if parse_quantity(text) < 1:
            rule = f"ratio {text} is less than 1"
            yield invalid(f"{field}.maxLimitRequestRatio[{resource}]", text, rule)


def check_quota(obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded ResourceQuota."""
    spec = obj.get("spec", {})
    hard = spec.get("hard") or {}
    causes = _not_negative(hard, "spec.hard")
    for name in hard:
        field = f"spec.hard[{name}]"
        if "/" not in name and name not in _QUOTA_NAMES and not name.startswith("hugepages-"):
            if not name.startswith("requests.hugepages-"):
                causes.append(invalid(field, name, "must be a standard resource for quotas"))
        elif problem := qualified_name_problem(name):
            causes.append(invalid(field, name, problem))
    causes += [
        not_supported("spec.scopes", scope, SCOPES)
        for scope in spec.get("scopes") or ()
        if scope not in SCOPES
    ]
    for index, wanted in enumerate((spec.get("scopeSelector") or {}).get("matchExpressions") or ()):
        field = f"spec.scopeSelector.matchExpressions[{index}]"
        if wanted.get("scopeName") not in SCOPES:
            causes.append(not_supported(f"{field}.scopeName", wanted.get("scopeName"), SCOPES))
        known = ["DoesNotExist", "Exists", "In", "NotIn"]
        if wanted.get("operator") not in known:
            causes.append(not_supported(f"{field}.operator", wanted.get("operator"), known))
    return causes


def quota_update(obj: Object, old: Object) -> list[Cause]:
    """Return what an update changes that may not change."""
    now, before = obj["spec"].get("scopes") or [], old["spec"].get("scopes") or []
    if sorted(now) == sorted(before):
        return []
    return [invalid("spec.scopes", now, "field is immutable")]


def check_endpoint_slice(obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded EndpointSlice."""
    causes: list[Cause] = []
    kinds = ["FQDN", "IPv4", "IPv6"]
    if obj.get("addressType") not in kinds:
        causes.append(not_supported("addressType", obj.get("addressType"), kinds))
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            rule = "must contain at least 1 address"
            causes.append(required(f"endpoints[{index}].addresses", rule))
        for number, address in enumerate(endpoint.get("addresses") or ()):
            kind = obj.get("addressType", "")
            if kind in ("IPv4", "IPv6") and family_of(address) != kind:
                where = f"endpoints[{index}].addresses[{number}]"
                causes.append(invalid(where, address, f"must be an {kind} address"))
    return causes


def endpoint_slice_update(obj: Object, old: Object) -> list[Cause]:
    """Return what an update changes that may not change."""
    if obj.get("addressType") == old.get("addressType"):
        return []
    return [invalid("addressType", obj.get("addressType"), "field is immutable")]


def _not_negative(amounts: Object, field: str) -> list[Cause]:
    return [
        invalid(f"{field}[{name}]", text, "must be greater than or equal to 0")
        for name, text in amounts.items()
        if parse_quantity(text) < 0
    ]
