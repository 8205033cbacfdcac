"""The objects that every cluster has; made at first start, and a service account in every namespace."""

from __future__ import annotations

import logging
from typing import Any, Self

from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.objects.client import Objects
from kubecore.objects.operations import CRDS
from kubecore.objects.watching import WatchHub
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


class Bootstrap:
    """Component: on enter, serve the stored CRDs and make what is missing; then give namespaces their account."""

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
        await self._ensure(_RBAC, "clusterroles", "", _CLUSTER_ADMIN)
        await self._ensure(_RBAC, "clusterrolebindings", "", _CLUSTER_ADMINS)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Give every namespace the service account that pods run as."""
        namespaces = self._registry.find("", "v1", "namespaces")
        assert namespaces is not None
        while True:
            found, version = await self._objects.list(namespaces)
            for namespace in found:
                await self._give_account(namespace)
            try:
                async for event in self._objects.watch(namespaces, resource_version=version):
                    if event.type == "ADDED":
                        await self._give_account(event.obj)
            except ApiStatusError as exc:
                if exc.status != 410:
                    raise

    async def _give_account(self, namespace: dict[str, Any]) -> None:
        if "deletionTimestamp" not in namespace["metadata"]:
            account = {"metadata": {"name": "default"}}
            await self._ensure("", "serviceaccounts", namespace["metadata"]["name"], account)

    async def _ensure(self, group: str, plural: str, namespace: str, obj: dict[str, Any]) -> None:
        resource = self._registry.find(group, "v1", plural)
        assert resource is not None
        try:
            await self._objects.create(resource, namespace, obj)
        except ApiStatusError as exc:
            if exc.status not in (403, 404, 409):  # there already, or its namespace is going
                raise
