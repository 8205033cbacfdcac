"""The objects that every cluster has; made at first start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.objects.client import Objects
from kubecore.objects.operations import CRDS
from kubecore.objects.watching import WatchHub
from kubecore.schema.validation_policies import SYSTEM_PRIORITIES
from kubecore.storage.store import Store
from kubecore.values.invalid import InvalidObjectError

logger = logging.getLogger(__name__)

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_RBAC = "rbac.authorization.k8s.io"
_CLUSTER_ADMIN: dict[str, Any] = {
    "metadata": {"name": "cluster-admin"},
    "rules": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
}
_CLUSTER_ADMINS: dict[str, Any] = {
    "metadata": {"name": "cluster-admin"},
    "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:masters"}],
}
# Whom kubelets let in: this server's own client certificate, to be bound by name.
_KUBELET_ADMIN: dict[str, Any] = {
    "metadata": {"name": "system:kubelet-api-admin"},
    "rules": [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "proxy"]},
        {
            "apiGroups": [""],
            "resources": [f"nodes/{part}" for part in ("proxy", "log", "stats", "metrics")],
            "verbs": ["*"],
        },
    ],
}
# Whose requests for nodes' client certificates are approved without a person: bind them to bootstrap groups.
_APPROVED: tuple[dict[str, Any], ...] = tuple(
    {
        "metadata": {"name": f"system:certificates.k8s.io:certificatesigningrequests:{kind}"},
        "rules": [
            {
                "apiGroups": ["certificates.k8s.io"],
                "resources": [f"certificatesigningrequests/{kind}"],
                "verbs": ["create"],
            }
        ],
    }
    for kind in ("nodeclient", "selfnodeclient")
)
_KUBELET_ADMINS: dict[str, Any] = {
    "metadata": {"name": "system:kubelet-api-admin"},
    "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
    "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": "kube-apiserver-kubelet-client"}],
}


class Bootstrap:
    """Component: on enter, serve the stored CRDs and make what is missing."""

    name = "bootstrap"

    def __init__(self, store: Store, registry: Registry, hub: WatchHub, objects: Objects) -> None:
        self._store, self._registry, self._hub, self._objects = store, registry, hub, objects

    async def __aenter__(self) -> Self:
        self._hub.start()
        for entry in self._store.entries(CRDS):
            try:
                self._registry.install_crd(entry.parse())
            except InvalidObjectError as exc:  # written by an older release with laxer rules
                logger.warning("custom resources are not served: %s", exc)
        for name in NAMESPACES:
            await self._ensure("", "namespaces", "", {"metadata": {"name": name}})
        for name, value in SYSTEM_PRIORITIES.items():
            priority = {"metadata": {"name": name}, "value": value}
            await self._ensure("scheduling.k8s.io", "priorityclasses", "", priority)
        await self._ensure(_RBAC, "clusterroles", "", _CLUSTER_ADMIN)
        for role in (_KUBELET_ADMIN, *_APPROVED):
            await self._ensure(_RBAC, "clusterroles", "", role)
        for binding in (_CLUSTER_ADMINS, _KUBELET_ADMINS):
            await self._ensure(_RBAC, "clusterrolebindings", "", binding)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def _ensure(self, group: str, plural: str, namespace: str, obj: dict[str, Any]) -> None:
        resource = self._registry.find(group, "v1", plural)
        assert resource is not None
        try:
            await self._objects.create(resource, namespace, obj)
        except ApiStatusError as exc:
            if exc.status not in (403, 404, 409):  # there already, or its namespace is going
                raise
