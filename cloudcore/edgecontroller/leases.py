"""A node's heartbeat: one API write per report."""

from __future__ import annotations

import msgspec

from cloudcore.edgecontroller.reports import NodeApi, RefusedError, decode, encode
from cloudcore.kube.errors import KubeNotFoundError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import LEASES
from synccore.messages import Delta, ObjectKey, Op

LEASE_NAMESPACE = "kube-node-lease"


class _LeaseReport(msgspec.Struct, rename="camel"):
    renew_time: str
    lease_duration_seconds: int


_decoder = msgspec.json.Decoder(_LeaseReport)


class LeaseWriter:
    """Renews the lease of a node, and makes it when it is not there."""

    def __init__(self, api: NodeApi, nodes: Informer) -> None:
        self._api, self._nodes = api, nodes

    async def write(self, node: str, delta: Delta) -> str:
        """Write the report; return its result. Raises: RefusedError, KubeApiError."""
        if delta.key != ObjectKey("Lease", LEASE_NAMESPACE, node) or delta.op is not Op.UPSERT:
            raise RefusedError("a node may renew its own lease only")
        report = decode(_decoder, delta.body)
        spec = {
            "holderIdentity": node,
            "leaseDurationSeconds": report.lease_duration_seconds,
            "renewTime": report.renew_time,
        }
        owners = self._owners(node)
        path = LEASES.path(delta.key)
        try:
            await self._api.patch(node, path, encode({"metadata": owners, "spec": spec}))
        except KubeNotFoundError:
            metadata = {"name": node, "namespace": LEASE_NAMESPACE, **owners}
            made = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
            path = LEASES.within(LEASE_NAMESPACE)
            await self._api.post(node, path, encode(made | {"spec": spec}))
        return "written"

    def _owners(self, node: str) -> dict[str, object]:
        """Return the reference that makes the lease go when its Node goes; in every renewal, so it mends itself."""
        known = self._nodes.get(ObjectKey("Node", "", node))
        if known is None:
            return {}
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": known.uid}
        return {"ownerReferences": [owner]}
