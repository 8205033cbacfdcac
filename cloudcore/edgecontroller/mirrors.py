"""Mirror pods: what stands in the cluster for pods that nodes run from their own files."""

from __future__ import annotations

import msgspec

from cloudcore.edgecontroller.references import MIRROR_ANNOTATION
from cloudcore.edgecontroller.reports import NodeApi, RefusedError, decode, encode
from cloudcore.kube.errors import KubeConflictError, KubeNotFoundError
from cloudcore.kube.resources import NODES, PODS, read_object
from synccore.messages import Delta, ObjectKey, Op


class _Meta(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)

    @property
    def mirrored(self) -> str:
        """Return the hash of the static pod that it stands for, "" if it is no mirror."""
        return (self.metadata.annotations or {}).get(MIRROR_ANNOTATION, "")


_pods = msgspec.json.Decoder(_Pod)
_trees = msgspec.json.Decoder(dict[str, msgspec.Raw])


class MirrorWriter:
    """Makes and removes mirror pods with their node's own rights."""

    def __init__(self, api: NodeApi) -> None:
        self._api = api

    async def write(self, node: str, delta: Delta) -> str:
        """Write the wish; return its result. Raises: RefusedError, KubeApiError."""
        key = ObjectKey("Pod", delta.key.namespace, delta.key.name)
        there = await self._read(node, key)
        if there is not None and (there.spec.node_name != node or not there.mirrored):
            raise RefusedError("a pod that is no mirror of this node has its name")
        if delta.op is Op.TOMBSTONE:
            return await self._remove(node, key, there) if there is not None else "gone"
        body = self._checked(node, key, delta)
        if there is not None:
            if there.mirrored == delta.uid:
                return "written"
            await self._remove(node, key, there)
        owned = await self._owned(node, body)
        try:
            await self._api.post(node, PODS.within(key.namespace), owned)
        except (
            KubeConflictError
        ):  # made since, or the old one still ends: the node will see and ask again
            return "gone"
        return "written"

    async def _read(self, node: str, key: ObjectKey) -> _Pod | None:
        try:
            return decode(_pods, await self._api.get(node, PODS.path(key)))
        except KubeNotFoundError:
            return None

    def _checked(self, node: str, key: ObjectKey, delta: Delta) -> bytes:
        pod = decode(_pods, delta.body)
        meta = pod.metadata
        if (meta.namespace, meta.name) != (key.namespace, key.name) or pod.spec.node_name != node:
            raise RefusedError("it is not the pod that its key says, or not of this node")
        if not delta.uid or pod.mirrored != delta.uid:
            raise RefusedError(f"its annotation {MIRROR_ANNOTATION} is not its uid")
        return delta.body

    async def _owned(self, node: str, body: bytes) -> bytes:
        """Return `body` with the Node as its owner: NodeRestriction demands it, and it goes with the node."""
        path = NODES.path(ObjectKey("Node", "", node))
        uid = read_object(NODES.kind, await self._api.get(node, path)).uid
        tree = decode(_trees, body)
        meta = decode(_trees, bytes(tree["metadata"]))
        owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": True}
        return encode({**tree, "metadata": {**meta, "ownerReferences": [owner]}})

    async def _remove(self, node: str, key: ObjectKey, there: _Pod) -> str:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": there.metadata.uid},
        }
        try:
            await self._api.delete(node, PODS.path(key), encode(options))
        except (KubeNotFoundError, KubeConflictError):
            return "gone"
        return "written"
