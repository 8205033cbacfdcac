"""Defaults of the built-in kinds, as the API server's `SetDefaults_*` fill them in."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from kubecore.kinds.resource import Resource
from kubecore.schema.defaults_pods import default_pod
from kubecore.schema.defaults_services import default_service

Object = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"


def apply_builtin_defaults(resource: Resource, obj: Object) -> None:
    """Fill in, in place, what the sender left out."""
    if fill := _DEFAULTS.get(resource.group_resource):
        fill(obj)


def _namespace(namespace: Object) -> None:
    namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    metadata = namespace.setdefault("metadata", {})
    labels = metadata.setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = metadata.get("name", "")
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def _secret(secret: Object) -> None:
    secret.setdefault("type", "Opaque")
    plain = secret.pop("stringData", None)
    if plain:
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _structs(obj: Object) -> None:
    """Go writes a struct even where it is empty, and clients count on it."""
    obj.setdefault("spec", {})
    if obj.get("kind") == "Node":
        obj.setdefault("status", {})


def _endpoints(endpoints: Object) -> None:
    for subset in endpoints.get("subsets") or []:
        for port in subset.get("ports") or []:
            port.setdefault("protocol", "TCP")


def _endpoint_slice(endpoints: Object) -> None:
    for port in endpoints.get("ports") or []:
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _limit_range(limits: Object) -> None:
    """A maximum is the default limit, a limit the default request, a minimum the last resort."""
    for item in limits.get("spec", {}).get("limits") or []:
        if item.get("type") != "Container":
            continue
        default = {**(item.get("max") or {}), **(item.get("default") or {})}
        request = {**(item.get("min") or {}), **default, **(item.get("defaultRequest") or {})}
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request


def _priority_class(priority_class: Object) -> None:
    priority_class.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _signing_request(request: Object) -> None:
    request.setdefault("status", {})


def _volume(volume: Object) -> None:
    spec = volume.setdefault("spec", {})
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    if isinstance(spec.get("hostPath"), dict):
        spec["hostPath"].setdefault("type", "")
    volume.setdefault("status", {}).setdefault("phase", "Pending")


def _claim(claim: Object) -> None:
    claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    claim.setdefault("status", {}).setdefault("phase", "Pending")


def _storage_class(storage_class: Object) -> None:
    storage_class.setdefault("reclaimPolicy", "Delete")
    storage_class.setdefault("volumeBindingMode", "Immediate")


def _role_binding(binding: Object) -> None:
    if "roleRef" in binding:
        binding["roleRef"].setdefault("apiGroup", _RBAC)
    for subject in binding.get("subjects") or []:
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", _RBAC)


def _crd(crd: Object) -> None:
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "pods": default_pod,
    "namespaces": _namespace,
    "nodes": _structs,
    "leases.coordination.k8s.io": _structs,
    "secrets": _secret,
    "services": default_service,
    "endpoints": _endpoints,
    "endpointslices.discovery.k8s.io": _endpoint_slice,
    "limitranges": _limit_range,
    "resourcequotas": _structs,
    "priorityclasses.scheduling.k8s.io": _priority_class,
    "certificatesigningrequests.certificates.k8s.io": _signing_request,
    "persistentvolumes": _volume,
    "persistentvolumeclaims": _claim,
    "storageclasses.storage.k8s.io": _storage_class,
    f"rolebindings.{_RBAC}": _role_binding,
    f"clusterrolebindings.{_RBAC}": _role_binding,
    "customresourcedefinitions.apiextensions.k8s.io": _crd,
}
