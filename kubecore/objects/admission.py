"""What the server fills in or refuses in new objects of some kinds, beyond their schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.kinds.resource import Resource
from kubecore.objects.pod_accounts import MIRROR
from kubecore.objects.service_addresses import carry_addresses
from kubecore.values.signers import REQUESTS

Object = dict[str, Any]

CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
# As Kubernetes: a pod outlives five minutes of its node's silence.
_UNREACHABLE_SECONDS = 300
_NODE_FAULTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def fill_new(resource: Resource, obj: Object) -> None:
    """Fill in, in place, what a new object of this kind starts with."""
    # A node registers with its status; every other status is its controller's to write.
    if resource.has_status and resource.storage_name != "nodes":
        obj.pop("status", None)
    if fill := _FILL.get(resource.storage_name):
        fill(obj)


def fill_update(resource: Resource, obj: Object, current: Object) -> None:
    """Put back, in place, what an update of this kind cannot change."""
    if resource.storage_name == "namespaces" and isinstance(obj.get("spec", {}), dict):
        finalizers = current.get("spec", {}).get("finalizers")
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": finalizers or []}
    if resource.storage_name == REQUESTS:
        obj["spec"] = current["spec"]  # who asked for what does not change
    if resource.storage_name == "services":
        carry_addresses(obj, current)


def _fill_namespace(namespace: Object) -> None:
    name = namespace["metadata"].get("name")
    labels = namespace["metadata"].get("labels")
    if isinstance(labels, dict | None):
        namespace["metadata"]["labels"] = {**(labels or {}), "kubernetes.io/metadata.name": name}
    namespace["spec"] = {"finalizers": ["kubernetes"]}
    namespace["status"] = {"phase": "Active"}


def _fill_pod(pod: Object) -> None:
    pod["status"] = {"phase": "Pending"}
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    annotations = pod["metadata"].get("annotations")
    if not (isinstance(annotations, dict) and MIRROR in annotations):
        spec = pod["spec"] = {"serviceAccountName": "default", **spec}
    tolerations = spec.get("tolerations") or []
    # What is not a list of objects is for the schema to refuse.
    if isinstance(tolerations, list) and all(isinstance(t, dict) for t in tolerations):
        spec["tolerations"] = tolerations + [
            {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": _UNREACHABLE_SECONDS,
            }
            for key in _NODE_FAULTS
            if not any(_tolerates_eviction(t, key) for t in tolerations)
        ]


def _tolerates_eviction(toleration: Object, key: str) -> bool:
    return toleration.get("key") in (key, "", None) and toleration.get("effect") in (
        "NoExecute",
        "",
        None,
    )


def _fill_crd(crd: Object) -> None:
    metadata = crd["metadata"]
    finalizers = metadata.get("finalizers") or []
    if isinstance(finalizers, list) and CRD_FINALIZER not in finalizers:
        metadata["finalizers"] = [*finalizers, CRD_FINALIZER]


_FILL: dict[str, Callable[[Object], None]] = {
    "namespaces": _fill_namespace,
    "pods": _fill_pod,
    "customresourcedefinitions.apiextensions.k8s.io": _fill_crd,
}
