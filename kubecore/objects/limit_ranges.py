"""Limit ranges: defaults for the containers of new pods, and bounds for containers, pods and claims.

Source:  Kubernetes' admission plugin LimitRanger.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kubecore.errors import forbidden, invalid
from kubecore.kinds.resource import Resource
from kubecore.objects.pod_accounts import MIRROR
from kubecore.schema.defaults_pods import qos_class
from kubecore.schema.validation import check_builtin
from kubecore.storage.store import Store
from kubecore.values.invalid import InvalidObjectError
from kubecore.values.quantities import canonical_quantity, parse_quantity

Object = dict[str, Any]
Amounts = dict[str, str]
ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger:
    """Admits pods and claims by the limit ranges of their namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, resource: Resource, obj: Object, old: Object | None) -> None:
        """Complete a new pod, and check it or a claim. Raises:  ApiStatusError 403, 422."""
        meta = obj["metadata"]
        is_pod = resource.storage_name == "pods"
        # What a pod asks for stays as it is; mirrors show what runs already.
        if is_pod and (old is not None or MIRROR in (meta.get("annotations") or {})):
            return
        ranges = [
            entry.parse()
            for entry in self._store.upcoming("limitranges")
            if entry.namespace == meta["namespace"]
        ]
        if not ranges:
            return
        items = [item for one in ranges for item in one["spec"].get("limits") or ()]
        if is_pod:
            self._fill(resource, obj, items)
        found = list(_pod_problems(obj, items) if is_pod else _claim_problems(obj, items))
        if found:
            text = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            raise forbidden(resource, meta["name"], text)

    def _fill(self, resource: Resource, pod: Object, items: list[Object]) -> None:
        notes = [
            note
            for item in items
            if item.get("type") == "Container"
            for note in _fill_containers(pod["spec"], item)
        ]
        if not notes:
            return
        annotations = pod["metadata"].get("annotations") or {}
        text = f"LimitRanger plugin set: {'; '.join(notes)}"
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: text}
        pod["status"]["qosClass"] = qos_class(pod["spec"])
        # A default limit may be below what the container requests.
        if causes := check_builtin(resource, pod):
            name = pod["metadata"]["name"]
            raise invalid(resource, InvalidObjectError(resource.group_kind, name, causes))


def _fill_containers(spec: Object, item: Object) -> Iterator[str]:
    """Fill in defaults; yield what was set, as upstream notes it."""
    for key, kind in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(key) or ():
            resources = container.setdefault("resources", {})
            for part, default in (("requests", "defaultRequest"), ("limits", "default")):
                given = item.get(default) or {}
                missing = [n for n in sorted(given) if n not in (resources.get(part) or {})]
                if missing:
                    resources[part] = {
                        **(resources.get(part) or {}),
                        **{name: given[name] for name in missing},
                    }
                    word = part.removesuffix("s")
                    yield f"{', '.join(missing)} {word} for {kind} {container['name']}"


def _pod_problems(pod: Object, items: list[Object]) -> Iterator[str]:
    spec = pod["spec"]
    for item in items:
        if item.get("type") == "Container":
            for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                yield from _problems(item, resources.get("requests"), resources.get("limits"))
        elif item.get("type") == "Pod":
            yield from _problems(item, _total(spec, "requests"), _total(spec, "limits"))


def _claim_problems(claim: Object, items: list[Object]) -> Iterator[str]:
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    for item in items:
        if item.get("type") == "PersistentVolumeClaim":
            yield from _minimum(item, requests, {})
            for name, most in sorted((item.get("max") or {}).items()):
                start = f"maximum {name} usage per {item['type']} is {most}"
                if name not in requests:
                    yield f"{start}.  No request is specified"
                elif _above(requests[name], most):
                    yield f"{start}, but request is {requests[name]}"


def _total(spec: Object, part: str) -> Amounts:
    """Return the sum over all containers of what each of them says; an init container if it is more."""
    each = [(c.get("resources") or {}).get(part) or {} for c in spec.get("containers") or ()]
    names = set.intersection(*(set(one) for one in each)) if each else set()
    total = {name: sum((parse_quantity(one[name]) for one in each), Decimal(0)) for name in names}
    for container in spec.get("initContainers") or ():
        for name, text in ((container.get("resources") or {}).get(part) or {}).items():
            if name in total:
                total[name] = max(total[name], parse_quantity(text))
    return {name: canonical_quantity(f"{amount:f}") for name, amount in total.items()}


def _problems(item: Object, requests: Amounts | None, limits: Amounts | None) -> Iterator[str]:
    requests, limits = requests or {}, limits or {}
    yield from _minimum(item, requests, limits)
    for name, most in sorted((item.get("max") or {}).items()):
        start = f"maximum {name} usage per {item['type']} is {most}"
        if name not in limits:
            yield f"{start}.  No limit is specified"
        elif _above(limits[name], most):
            yield f"{start}, but limit is {limits[name]}"
        elif name in requests and _above(requests[name], most):
            yield f"{start}, but request is {requests[name]}"
    for name, ratio in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        start = f"{name} max limit to request ratio per {item['type']} is {ratio}"
        request, limit = (parse_quantity(part.get(name, "0")) for part in (requests, limits))
        if not request:
            yield f"{start}, but no request is specified or request is 0"
        elif not limit:
            yield f"{start}, but no limit is specified or limit is 0"
        elif limit > request * parse_quantity(ratio):
            yield f"{start}, but provided ratio is {float(limit / request):f}"


def _minimum(item: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, least in sorted((item.get("min") or {}).items()):
        start = f"minimum {name} usage per {item['type']} is {least}"
        if name not in requests:
            yield f"{start}.  No request is specified"
        elif _above(least, requests[name]):
            yield f"{start}, but request is {requests[name]}"
        elif name in limits and _above(least, limits[name]):
            yield f"{start}, but limit is {limits[name]}"


def _above(text: str, limit: str) -> bool:
    return parse_quantity(text) > parse_quantity(limit)
