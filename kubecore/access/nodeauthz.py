"""What a node (user system:node:NAME in group system:nodes) may touch: itself, its lease, its own pods."""

from __future__ import annotations

from typing import Any

from kubecore.access.authn import User
from kubecore.access.target import Target
from kubecore.storage.store import Object, Store

NODES_GROUP = "system:nodes"
_USER_PREFIX = "system:node:"
# Labels below these domains are the cluster's: pods are placed by them, so a node may not give them to itself.
_CLUSTER_DOMAINS = ("kubernetes.io", "k8s.io")
_NODE_DOMAINS = ("node.kubernetes.io", "kubelet.kubernetes.io")
_NODE_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
    }
)
_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
# Names of fields by which a pod gets at objects that its node could not read otherwise.
_REFERENCES = frozenset(
    {
        *("secret", "secretRef", "secretKeyRef", "imagePullSecrets"),
        *("configMap", "configMapRef", "configMapKeyRef", "persistentVolumeClaim"),
        "serviceAccountToken",
    }
)
_LEASE_NAMESPACE = "kube-node-lease"
_WRITE = ("patch", "update")


def node_of(user: User) -> str:
    """Return the name of the node that `user` is; "" if it is none."""
    if NODES_GROUP in user.groups and user.name.startswith(_USER_PREFIX):
        return user.name.removeprefix(_USER_PREFIX)
    return ""


def allows(store: Store, node: str, target: Target) -> bool:
    """Tell whether `node` may do `target`; `write_problem` looks into what it writes."""
    verb = target.verb
    match (target.group, target.resource):
        case ("", "nodes"):
            return verb == "create" or (verb in ("get", *_WRITE) and target.name == node)
        case ("", "nodes/status"):
            return verb in ("get", *_WRITE) and target.name == node
        case ("coordination.k8s.io", "leases"):
            own = target.namespace == _LEASE_NAMESPACE and target.name in ("", node)
            return own and (
                verb == "create" or (bool(target.name) and verb in ("get", *_WRITE, "delete"))
            )
        case ("", "pods"):
            if verb in ("list", "watch"):
                return f"spec.nodeName={node}" in target.field_selector.split(",")
            if verb == "create":  # of mirrors of its own static pods; `write_problem` looks
                return True
            return verb in ("get", "delete") and _is_own_pod(store, node, target)
        case ("", "pods/status"):
            return verb in ("get", *_WRITE) and _is_own_pod(store, node, target)
        case ("", "events"):
            return verb in ("create", *_WRITE)
        case ("", "configmaps" | "secrets" as plural):
            return verb == "get" and _is_referenced(store, node, plural, target)
        case _:
            return False


def write_problem(node: str, target: Target, before: Object | None, after: Object) -> str:
    """Return why `node` may not write `after` in place of `before` (None: it is new); "" if it may.

    Source:  Kubernetes' admission plugin NodeRestriction.
    """
    if target.resource == "pods" and before is None:
        return _mirror_problem(node, after)
    if target.plural not in ("nodes", "leases"):
        return ""
    if after["metadata"]["name"] != node:
        return "a node may create itself and its lease only"
    if target.plural != "nodes":
        return ""
    if before is not None and _taints(before) != _taints(after):
        return "a node may not change its taints"
    if forbidden := sorted(filter(_is_forbidden, _changed_labels(before, after))):
        return f"a node may not set or remove the labels {', '.join(forbidden)}"
    return ""


def _mirror_problem(node: str, pod: Object) -> str:
    """Return why `node` may not create `pod`, "" if it is a mirror of a static pod of its own."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if _MIRROR_ANNOTATION not in (metadata.get("annotations") or {}):
        return f"a node may create mirror pods only: {_MIRROR_ANNOTATION} is not set"
    if spec.get("nodeName") != node:
        return "a node may create pods bound to itself only"
    owners = [(o.get("kind"), o.get("name")) for o in metadata.get("ownerReferences") or ()]
    if owners != [("Node", node)]:
        return "a node may create pods owned by itself only"
    if spec.get("serviceAccountName") not in (None, "", "default"):
        return "a mirror pod may not have a service account"
    if found := sorted(_keys_below(spec) & _REFERENCES):
        return f"a mirror pod may not refer to other objects: {', '.join(found)}"
    return ""


def _keys_below(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys_below, value.values()))
    return set().union(*map(_keys_below, value)) if isinstance(value, list) else set()


def _taints(node: Object) -> Any:
    return (node.get("spec") or {}).get("taints") or []


def _changed_labels(before: Object | None, after: Object) -> set[str]:
    old = ((before or {}).get("metadata") or {}).get("labels") or {}
    new = after["metadata"].get("labels") or {}
    return {key for key, _ in old.items() ^ new.items()}


def _is_forbidden(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if not _is_below(domain, _CLUSTER_DOMAINS) or label in _NODE_LABELS:
        return False
    return not _is_below(domain, _NODE_DOMAINS)


def _is_below(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)


def _is_own_pod(store: Store, node: str, target: Target) -> bool:
    entry = store.latest("pods", target.namespace, target.name)
    # A pod that is gone is answered with 404, which a node has to tell from "not yours".
    return entry is None or entry.parse().get("spec", {}).get("nodeName") == node


def _is_referenced(store: Store, node: str, plural: str, target: Target) -> bool:
    kind = "configMap" if plural == "configmaps" else "secret"
    quoted = f'"{target.name}"'.encode()
    for entry in store.entries("pods", target.namespace):
        if quoted in entry.raw:
            spec = entry.parse().get("spec", {})
            if spec.get("nodeName") == node and _refers(spec, kind, target.name):
                return True
    return False


def _refers(spec: Object, kind: str, name: str) -> bool:
    """Tell whether a pod's volumes, environment or pull secrets name the object."""
    key = "secretName" if kind == "secret" else "name"
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            reference = source.get(kind) or {}
            if name in (reference.get(key), reference.get("name")):
                return True
    containers = (spec.get("containers") or []) + (spec.get("initContainers") or [])
    for container in containers:
        variables = [env.get("valueFrom") or {} for env in container.get("env") or ()]
        references = [source.get(f"{kind}KeyRef") or {} for source in variables]
        references += [source.get(f"{kind}Ref") or {} for source in container.get("envFrom") or ()]
        if any(reference.get("name") == name for reference in references):
            return True
    pulls = spec.get("imagePullSecrets") or () if kind == "secret" else ()
    return any(reference.get("name") == name for reference in pulls)
