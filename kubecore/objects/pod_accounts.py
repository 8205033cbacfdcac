"""Gives new pods what their service account brings: pull secrets, and a token where containers look for one.

Source:  Kubernetes' admission plugin ServiceAccount.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from kubecore.errors import forbidden
from kubecore.kinds.resource import Resource
from kubecore.storage.store import Store

Object = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
# As upstream: an hour, and seven seconds by which clusters tell these tokens from those that were asked for.
_TOKEN_S = 3607
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# A namespace that was just made has no account for a moment.
_WAIT_S, _LOOK_S = 2.0, 0.05


class PodAccounts:
    """Looks up accounts in the store; `mount_tokens` False leaves the tokens out."""

    def __init__(self, store: Store, *, mount_tokens: bool) -> None:
        self._store, self._mount_tokens = store, mount_tokens

    async def wait(self, namespace: str, pod: Object) -> None:
        """Wait, for a moment at most, until the account of a pod that has not been checked yet is there."""
        spec = pod.get("spec")
        name = spec.get("serviceAccountName") if isinstance(spec, dict) else None
        if (
            name not in (None, "", "default")
            or self._store.get("namespaces", "", namespace) is None
        ):
            return
        for _ in range(int(_WAIT_S / _LOOK_S)):
            if self._store.get("serviceaccounts", namespace, "default"):
                return
            await asyncio.sleep(_LOOK_S)

    def admit(self, resource: Resource, pod: Object, old: Object | None) -> None:
        """Add, in place, to a new pod that has been checked. Raises:  ApiStatusError 403: no such account."""
        metadata, spec = pod["metadata"], pod["spec"]
        if old is not None or MIRROR in (metadata.get("annotations") or {}):
            return
        namespace, name = metadata["namespace"], spec.get("serviceAccountName") or "default"
        entry = self._store.latest("serviceaccounts", namespace, name)
        if entry is None:
            problem = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden(resource, metadata["name"], problem)
        account = entry.parse()
        if pulls := account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = spec.get("imagePullSecrets") or pulls
        if self._mount_tokens and _wants_token(spec, account):
            _mount_token(spec)


def _wants_token(spec: Object, account: Object) -> bool:
    for said in (spec, account):
        if said.get("automountServiceAccountToken") is not None:
            return bool(said["automountServiceAccountToken"])
    return True


def _mount_token(spec: Object) -> None:
    """Mount the token into every container that has nothing of its own at its place."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    without = [c for c in containers if not _has_mount(c)]
    if not without:
        return
    name = "kube-api-access-" + "".join(random.choices(_ALPHABET, k=5))
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _projection()}]
    mount = {"name": name, "readOnly": True, "mountPath": TOKEN_FOLDER}
    for container in without:
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), dict(mount)]


def _has_mount(container: Object) -> bool:
    return any(m.get("mountPath") == TOKEN_FOLDER for m in container.get("volumeMounts") or ())


def _projection() -> Object:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_S, "path": "token"}},
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }
            },
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    }
