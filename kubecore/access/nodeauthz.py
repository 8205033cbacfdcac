"""What a node (user system:node:NAME in group system:nodes) may touch: itself, its lease, its own pods."""

from __future__ import annotations

from typing import Any

from kubecore.access.authn import User
from kubecore.access.target import Target
from kubecore.storage.store import Object, Store
from kubecore.values.signers import NODE_PREFIX, NODES_GROUP

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
MIRROR = "kubernetes.io/config.mirror"


def node_of(user: User) -> str:
    """Return the name of the node that `user` is; "" if it is none."""
    if NODES_GROUP in user.groups and user.name.startswith(NODE_PREFIX):
        return user.name.removeprefix(NODE_PREFIX)
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
        case ("", "pods" | "pods/status" | "pods/eviction"):
            return _allows_pods(store, node, target)
        case ("", "serviceaccounts" | "serviceaccounts/token"):
            wanted = "create" if target.subresource else "get"
            return verb == wanted and _is_used(store, node, target)
        case ("certificates.k8s.io", "certificatesigningrequests"):
            return verb in ("create", "get", "list", "watch")
        case ("", "events"):
            return verb in ("create", *_WRITE)
        case ("", "configmaps" | "secrets" as plural):
            return verb == "get" and _is_referenced(store, node, plural, target)
        case _:
            return False


def _allows_pods(store: Store, node: str, target: Target) -> bool:
    verb = target.verb
    if target.subresource == "":
        if verb in ("list", "watch"):
            return f"spec.nodeName={node}" in target.field_selector.split(",")
        if verb == "create":  # mirror pods: `write_problem` looks at them
            return True
    verbs = {"": ("get", "delete"), "status": ("get", *_WRITE), "eviction": ("create",)}
    return verb in verbs[target.subresource] and _is_own_pod(store, node, target)


def write_problem(node: str, target: Target, before: Object | None, after: Object) -> str:
    """Return why `node` may not write `after` in place of `before` (None: it is new); "" if it may.

    Source:  Kubernetes' admission plugin NodeRestriction.
    """
    if target.plural == "pods" and before is None:
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


def token_problem(store: Store, node: str, target: Target, body: Any) -> str:
    """Return why `node` may not have the token it asks for; "" if it may.

    Source:  Kubernetes' admission plugin NodeRestriction.
    """
    spec = body.get("spec") if isinstance(body, dict) else None
    bound = spec.get("boundObjectRef") if isinstance(spec, dict) else None
    if not isinstance(bound, dict) or bound.get("kind") != "Pod" or not bound.get("name"):
        return "node requested token not bound to a pod"
    if not bound.get("uid"):
        return "node requested token with a pod binding without a uid"
    entry = store.latest("pods", target.namespace, str(bound["name"]))
    if entry is None:
        return ""  # answered with 404
    if entry.parse()["spec"].get("nodeName") != node:
        return "node requested token bound to a pod scheduled on a different node"
    return ""


def _mirror_problem(node: str, pod: Object) -> str:
    """A node creates no pods but the images of those it runs from files of its own."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if MIRROR not in (metadata.get("annotations") or {}):
        return f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
    if spec.get("nodeName") != node:
        return f'node "{node}" can only create pods with spec.nodeName set to itself'
    owners = [(o.get("kind"), o.get("name")) for o in metadata.get("ownerReferences") or ()]
    if owners != [("Node", node)]:
        return f'node "{node}" can only create pods with an owner reference set to itself'
    if spec.get("serviceAccountName"):
        return f'node "{node}" can not create pods that reference a service account'
    if found := sorted(_keys_below(spec) & _REFERENCES):
        return f'node "{node}" can not create pods that reference other objects: {", ".join(found)}'
    return ""


def _keys_below(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_keys_below, value.values()))
    return set().union(*map(_keys_below, value)) if isinstance(value, list) else set()


def _is_used(store: Store, node: str, target: Target) -> bool:
    """Tell whether a pod of `node` runs as the account."""
    quoted = f'"{target.name}"'.encode()
    for entry in store.entries("pods", target.namespace):
        if quoted in entry.raw:
            spec = entry.parse().get("spec", {})
            if spec.get("nodeName") == node and spec.get("serviceAccountName") == target.name:
                return True
    return False


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
