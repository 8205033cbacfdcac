"""What objects take of a quota, and the refusal of what would exceed one.

Usage is counted from the objects that are there or on their way, so it is right at every moment; the status of a
quota, which a controller keeps, is for people.
Source:  Kubernetes' admission plugin ResourceQuota and the evaluators of pkg/quota.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from kubecore.errors import forbidden
from kubecore.kinds.resource import Resource
from kubecore.schema.defaults_pods import qos_class
from kubecore.storage.store import Store, StoredObject
from kubecore.values.quantities import canonical_quantity, parse_quantity
from kubecore.values.requests import pod_limits, pod_requests

Object = dict[str, Any]
Usage = dict[str, Decimal]
QUOTAS = "resourcequotas"
_ONE = Decimal(1)
# Kinds whose number has a name of its own beside `count/PLURAL`.
_COUNTED = frozenset(
    {"configmaps", "persistentvolumeclaims", "resourcequotas", "secrets", "services"}
)
_PLAIN = ("cpu", "memory", "ephemeral-storage")
# Limits of a quota that every container has to say something about.
_TO_SAY = {
    **{name: ("requests", name) for name in ("cpu", "memory")},
    **{
        f"{part}.{name}": (part, name)
        for part in ("requests", "limits")
        for name in ("cpu", "memory")
    },
}
_BYTES = ("memory", "storage", "hugepages")
_CLASS = ".storageclass.storage.k8s.io/"


class QuotaUsage:
    """Counts; what one state of an object takes is kept until its next."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str], tuple[int, Usage]] = {}

    def quotas(self, namespace: str) -> list[Object]:
        """Return the quotas of a namespace."""
        return [
            entry.parse() for entry in self._store.upcoming(QUOTAS) if entry.namespace == namespace
        ]

    def used(self, quota: Object) -> Usage:
        """Return how much of each of its limits is taken."""
        hard = quota["spec"].get("hard") or {}
        namespace = quota["metadata"]["namespace"]
        total: Usage = dict.fromkeys(hard, Decimal(0))
        for storage in self._storages(hard):
            for entry in self._store.upcoming(storage):
                if entry.namespace != namespace:
                    continue
                if storage == "pods" and is_scoped(quota) and not in_scope(quota, entry.parse()):
                    continue
                for name, amount in self._of(storage, entry).items():
                    if name in total:
                        total[name] += amount
        return total

    def forget(self, storage: str, namespace: str, name: str) -> None:
        """Drop what is known of an object that has gone."""
        self._known.pop((storage, namespace, name), None)

    def _of(self, storage: str, entry: StoredObject) -> Usage:
        key = (storage, entry.namespace, entry.name)
        known = self._known.get(key)
        if known is None or known[0] != entry.revision:
            known = self._known[key] = (entry.revision, usage_of(storage, entry.parse()))
        return known[1]

    def _storages(self, hard: Mapping[str, str]) -> set[str]:
        """Return whose objects count against any of the limits."""
        found = set()
        for name in hard:
            if name.startswith("count/"):
                found.add(name.removeprefix("count/"))
            elif name.startswith("services"):
                found.add("services")
            elif name in _COUNTED:
                found.add(name)
            elif name == "requests.storage" or _CLASS in name:
                found.add("persistentvolumeclaims")
            else:
                found.add("pods")
        return found


class QuotaLimits:
    """Refuses what would take more of a quota than is left."""

    def __init__(self, usage: QuotaUsage) -> None:
        self._usage = usage

    def admit(self, resource: Resource, obj: Object, old: Object | None) -> None:
        """Look at a new or changed object. Raises:  ApiStatusError 403: a quota is exceeded, or has to be told more."""
        if not resource.namespaced:
            return
        quotas = self._usage.quotas(obj["metadata"]["namespace"])
        if not quotas:
            return
        storage, name = resource.storage_name, obj["metadata"]["name"]
        wanted = usage_of(storage, obj)
        before = usage_of(storage, old) if old is not None else {}
        more = {n: a for n, amount in wanted.items() if (a := amount - before.get(n, 0)) > 0}
        for quota in quotas:
            if storage == "pods":
                if not in_scope(quota, obj):
                    continue
                if old is None and (problem := _unsaid(quota, obj)):
                    raise forbidden(resource, name, problem)
            elif is_scoped(quota):
                continue
            if problem := self._exceeded(quota, more):
                raise forbidden(resource, name, problem)

    def _exceeded(self, quota: Object, more: Usage) -> str:
        hard = quota["spec"].get("hard") or {}
        asked = {name: amount for name, amount in more.items() if name in hard}
        if not asked:
            return ""
        used = self._usage.used(quota)
        over = sorted(n for n, a in asked.items() if used[n] + a > parse_quantity(hard[n]))
        if not over:
            return ""
        columns = (
            ",".join(f"{n}={shown(n, asked[n])}" for n in over),
            ",".join(f"{n}={shown(n, used[n])}" for n in over),
            ",".join(f"{n}={hard[n]}" for n in over),
        )
        name = quota["metadata"]["name"]
        return "exceeded quota: {}, requested: {}, used: {}, limited: {}".format(name, *columns)


def usage_of(storage: str, obj: Object) -> Usage:
    """Return what one object takes of any quota."""
    usage: Usage = {f"count/{storage}": _ONE}
    if storage in _COUNTED:
        usage[storage] = _ONE
    if of := _USAGE.get(storage):
        usage.update(of(obj))
    return usage


def _of_pod(pod: Object) -> Usage:
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return {}
    requests, limits = pod_requests(pod), pod_limits(pod)
    usage = {"pods": _ONE}
    for name, amount in requests.items():
        usage[f"requests.{name}"] = amount
        if name in _PLAIN or name.startswith("hugepages-"):
            usage[name] = amount
    usage.update({f"limits.{name}": amount for name, amount in limits.items()})
    return usage


def _of_service(service: Object) -> Usage:
    spec = service["spec"]
    ports = Decimal(sum(bool(port.get("nodePort")) for port in spec.get("ports") or ()))
    usage = {"services.nodeports": ports}
    if spec.get("type") == "LoadBalancer":
        usage["services.loadbalancers"] = _ONE
    return usage


def _of_claim(claim: Object) -> Usage:
    spec = claim["spec"]
    amount = parse_quantity(
        ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")
    )
    usage = {"requests.storage": amount}
    if name := spec.get("storageClassName"):
        usage[f"{name}{_CLASS}requests.storage"] = amount
        usage[f"{name}{_CLASS}persistentvolumeclaims"] = _ONE
    return usage


_USAGE: dict[str, Callable[[Object], Usage]] = {
    "pods": _of_pod,
    "services": _of_service,
    "persistentvolumeclaims": _of_claim,
}


def is_scoped(quota: Object) -> bool:
    """Return whether the quota counts some pods only."""
    spec = quota["spec"]
    return bool(spec.get("scopes") or (spec.get("scopeSelector") or {}).get("matchExpressions"))


def in_scope(quota: Object, pod: Object) -> bool:
    """Return whether the quota counts `pod`."""
    spec = quota["spec"]
    wanted = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    wanted += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(one, pod["spec"]) for one in wanted)


def _matches(wanted: Object, spec: Object) -> bool:
    best_effort = qos_class(spec) == "BestEffort"
    ends = spec.get("activeDeadlineSeconds") is not None
    match wanted.get("scopeName"):
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "Terminating":
            return ends
        case "NotTerminating":
            return not ends
        case "PriorityClass":
            name, values = spec.get("priorityClassName") or "", wanted.get("values") or ()
            match wanted.get("operator"):
                case "In":
                    return name in values
                case "NotIn":
                    return name not in values
                case "DoesNotExist":
                    return not name
            return bool(name)
    return False  # CrossNamespacePodAffinity: no such affinity is served


def _unsaid(quota: Object, pod: Object) -> str:
    """Return what the quota limits and a container does not say; "" if they say it all."""
    hard = quota["spec"].get("hard") or {}
    missing = [
        f"{name} for: {','.join(silent)}"
        for name in sorted(hard)
        if (silent := sorted(_silent(name, pod["spec"])))
    ]
    if not missing:
        return ""
    return f"failed quota: {quota['metadata']['name']}: must specify {'; '.join(missing)}"


def _silent(name: str, spec: Object) -> Iterator[str]:
    """Yield the containers that do not say what the limit `name` is about."""
    if name not in _TO_SAY:
        return
    part, resource = _TO_SAY[name]
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        if resource not in ((container.get("resources") or {}).get(part) or {}):
            yield container["name"]


def shown(name: str, amount: Decimal) -> str:
    """Return an amount of the limit `name` as Kubernetes writes it: bytes in powers of 1,024 where they are even."""
    if any(word in name for word in _BYTES) and amount and amount % 1024 == 0:
        return canonical_quantity(f"{amount / 1024:f}Ki")
    return canonical_quantity(f"{amount:f}")
