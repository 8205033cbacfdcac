"""The built-in kinds. A kind that is not here is not in discovery either: clients see it as unknown."""

from __future__ import annotations

from kubecore.kinds.resource import Resource, Subresource

_CORE = "io.k8s.api.core.v1."
_RBAC = "io.k8s.api.rbac.v1."
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


def _rbac(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        group=_RBAC_GROUP,
        version="v1",
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        definition=_RBAC + kind,
    )


BUILTIN: tuple[Resource, ...] = (
    _core("configmaps", "ConfigMap", "cm"),
    _core("endpoints", "Endpoints", "ep"),
    _core("events", "Event", "ev"),
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
    Resource(
        group="coordination.k8s.io",
        version="v1",
        plural="leases",
        kind="Lease",
        singular="lease",
        namespaced=True,
        definition="io.k8s.api.coordination.v1.Lease",
    ),
    Resource(
        group="storage.k8s.io",
        version="v1",
        plural="storageclasses",
        kind="StorageClass",
        singular="storageclass",
        namespaced=False,
        short_names=("sc",),
        definition="io.k8s.api.storage.v1.StorageClass",
    ),
    _rbac("roles", "Role", namespaced=True),
    _rbac("rolebindings", "RoleBinding", namespaced=True),
    _rbac("clusterroles", "ClusterRole", namespaced=False),
    _rbac("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
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
