"""The built-in kinds. A kind that is not here is not in discovery either: clients see it as unknown."""

from __future__ import annotations

from typing import Any

from kubecore.kinds.resource import Resource, Subresource

_CORE = "io.k8s.api.core.v1."
_RBAC_GROUP = "rbac.authorization.k8s.io"
_PROXY = ("create", "delete", "get", "patch", "update")
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"


def _core(
    plural: str,
    kind: str,
    *short_names: str,
    namespaced: bool = True,
    has_status: bool = False,
    categories: tuple[str, ...] = (),
    subresources: tuple[Subresource, ...] = (),
) -> Resource:
    return Resource(
        group="",
        version="v1",
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        short_names=short_names,
        categories=categories,
        has_status=has_status,
        subresources=subresources,
        definition=_CORE + kind,
    )


def _other(
    api: str, plural: str, kind: str, *short_names: str, namespaced: bool, **more: Any
) -> Resource:
    """Return a resource of a group; `api`: the group, and its package among the definitions."""
    package = api.partition(".")[0]
    return Resource(
        group=api,
        version="v1",
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        short_names=short_names,
        definition=f"io.k8s.api.{package}.v1.{kind}",
        **more,
    )


BUILTIN: tuple[Resource, ...] = (
    _core("configmaps", "ConfigMap", "cm"),
    _core("endpoints", "Endpoints", "ep"),
    _core("events", "Event", "ev"),
    _core("limitranges", "LimitRange", "limits"),
    _core("namespaces", "Namespace", "ns", namespaced=False, has_status=True),
    _core(
        "nodes",
        "Node",
        "no",
        namespaced=False,
        has_status=True,
        subresources=(Subresource("proxy", _PROXY, "NodeProxyOptions"),),
    ),
    _core("persistentvolumes", "PersistentVolume", "pv", namespaced=False, has_status=True),
    _core("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", has_status=True),
    _core(
        "pods",
        "Pod",
        "po",
        has_status=True,
        categories=("all",),
        subresources=(
            Subresource("attach", ("create", "get"), "PodAttachOptions"),
            Subresource("binding", ("create",), "Binding"),
            Subresource("ephemeralcontainers", ("get", "patch", "update")),
            # kubectl drain looks for this one with its group; without it, it deletes pods instead.
            Subresource("eviction", ("create",), "Eviction", "policy/v1"),
            Subresource("exec", ("create", "get"), "PodExecOptions"),
            Subresource("log", ("get",)),
            Subresource("portforward", ("create", "get"), "PodPortForwardOptions"),
            Subresource("proxy", _PROXY, "PodProxyOptions"),
        ),
    ),
    _core("resourcequotas", "ResourceQuota", "quota", has_status=True),
    _core("secrets", "Secret"),
    _core(
        "serviceaccounts",
        "ServiceAccount",
        "sa",
        subresources=(
            Subresource("token", ("create",), "TokenRequest", "authentication.k8s.io/v1"),
        ),
    ),
    _core(
        "services",
        "Service",
        "svc",
        has_status=True,
        categories=("all",),
        subresources=(Subresource("proxy", _PROXY, "ServiceProxyOptions"),),
    ),
    _other(
        "certificates.k8s.io",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        "csr",
        namespaced=False,
        has_status=True,
        subresources=(Subresource("approval", ("get", "patch", "update")),),
    ),
    _other("coordination.k8s.io", "leases", "Lease", namespaced=True),
    _other("discovery.k8s.io", "endpointslices", "EndpointSlice", namespaced=True),
    _other("node.k8s.io", "runtimeclasses", "RuntimeClass", namespaced=False),
    _other("scheduling.k8s.io", "priorityclasses", "PriorityClass", "pc", namespaced=False),
    _other("storage.k8s.io", "storageclasses", "StorageClass", "sc", namespaced=False),
    _other(_RBAC_GROUP, "roles", "Role", namespaced=True),
    _other(_RBAC_GROUP, "rolebindings", "RoleBinding", namespaced=True),
    _other(_RBAC_GROUP, "clusterroles", "ClusterRole", namespaced=False),
    _other(_RBAC_GROUP, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource(
        group="apiextensions.k8s.io",
        version="v1",
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        singular="customresourcedefinition",
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        has_status=True,
        definition=_CRD,
    ),
)
