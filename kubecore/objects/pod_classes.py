"""Resolves the classes that new pods name: their priority, and the overhead and nodes of their runtime.

Source:  Kubernetes' admission plugins Priority and RuntimeClass.
"""

from __future__ import annotations

from typing import Any

from kubecore.errors import forbidden
from kubecore.kinds.resource import Resource
from kubecore.objects.pod_accounts import MIRROR
from kubecore.storage.store import Store

Object = dict[str, Any]
PRIORITIES = "priorityclasses.scheduling.k8s.io"
RUNTIMES = "runtimeclasses.node.k8s.io"


class PodPriorities:
    """Sets `priority` and `preemptionPolicy` of a new pod from its class, or the default one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, resource: Resource, pod: Object, old: Object | None) -> None:
        """Complete a new pod. Raises:  ApiStatusError 403: no such class, or a priority of its own."""
        if old is not None or _is_mirror(pod):
            return
        spec, name = pod["spec"], pod["metadata"]["name"]
        wanted = spec.get("priorityClassName") or ""
        if wanted:
            entry = self._store.latest(PRIORITIES, "", wanted)
            if entry is None:
                problem = f"no PriorityClass with name {wanted} was found"
                raise forbidden(resource, name, problem)
            found = entry.parse()
        else:
            found = self._default()
        value = found.get("value", 0)
        if spec.get("priority") not in (None, 0, value):
            problem = (
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
            raise forbidden(resource, name, problem)
        spec["priority"] = value
        spec["preemptionPolicy"] = found.get("preemptionPolicy", "PreemptLowerPriority")
        if found:
            spec["priorityClassName"] = found["metadata"]["name"]

    def _default(self) -> Object:
        """Return the default class, of several (upstream allows none to be made) the lowest; {} if there is none."""
        marked = [
            one
            for entry in self._store.upcoming(PRIORITIES)
            if (one := entry.parse()).get("globalDefault")
        ]
        return min(marked, key=lambda one: int(one["value"]), default={})


class OneDefaultPriority:
    """Refuses a second default class."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, resource: Resource, obj: Object, _old: Object | None) -> None:
        """Look at a new or changed PriorityClass. Raises:  ApiStatusError 403."""
        if not obj.get("globalDefault"):
            return
        name = obj["metadata"]["name"]
        for entry in self._store.upcoming(PRIORITIES):
            if entry.name != name and entry.parse().get("globalDefault"):
                problem = f"PriorityClass {entry.name} is already marked as default. Only one default can exist"
                raise forbidden(resource, name, problem)


class PodRuntimes:
    """Sets a new pod's overhead, and adds its runtime's node selector and tolerations."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, resource: Resource, pod: Object, old: Object | None) -> None:
        """Complete a new pod. Raises:  ApiStatusError 403: no such class, or it contradicts the pod."""
        if old is not None or _is_mirror(pod):
            return
        spec = pod["spec"]
        wanted = spec.get("runtimeClassName") or ""
        found: Object = {}
        if wanted:
            entry = self._store.latest(RUNTIMES, "", wanted)
            if entry is None:
                self._reject(resource, pod, f'RuntimeClass "{wanted}" not found')
            else:
                found = entry.parse()
        self._set_overhead(resource, pod, (found.get("overhead") or {}).get("podFixed"))
        scheduling = found.get("scheduling") or {}
        selector = spec.get("nodeSelector") or {}
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.get(key, value) != value:
                problem = (
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {selector[key]}"
                )
                self._reject(resource, pod, problem)
            spec["nodeSelector"] = selector = {**selector, key: value}
        present = spec.get("tolerations") or []
        added = [t for t in scheduling.get("tolerations") or () if t not in present]
        if added:
            spec["tolerations"] = [*present, *added]

    def _set_overhead(self, resource: Resource, pod: Object, overhead: Object | None) -> None:
        said = pod["spec"].get("overhead")
        if said and not overhead:
            problem = "Pod Overhead set without corresponding RuntimeClass defined Overhead"
            self._reject(resource, pod, problem)
        if said and said != overhead:
            problem = "Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            self._reject(resource, pod, problem)
        if overhead:
            pod["spec"]["overhead"] = dict(overhead)

    def _reject(self, resource: Resource, pod: Object, problem: str) -> None:
        raise forbidden(resource, pod["metadata"]["name"], f"pod rejected: {problem}")


def _is_mirror(pod: Object) -> bool:
    """Mirrors show what a node runs already: there is nothing to decide about them."""
    return MIRROR in (pod["metadata"].get("annotations") or {})
