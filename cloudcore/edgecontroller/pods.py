"""Pod statuses from the edge, and the last step of a pod's deletion."""

from __future__ import annotations

import msgspec

from cloudcore.edgecontroller.overwritten import WrittenStatuses
from cloudcore.edgecontroller.references import place_pod
from cloudcore.edgecontroller.reports import (
    REPLACE,
    NodeApi,
    RefusedError,
    decode,
    encode,
    whole_conditions,
)
from cloudcore.kube.client import STRATEGIC_PATCH
from cloudcore.kube.errors import KubeConflictError, KubeNotFoundError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import PODS, KubeObject, read_object
from synccore.messages import Delta, ObjectKey, Op

# What a node's agent owns of a status: absent from a report means it is no longer so, and a patch has to say that.
OWNED = (
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
)
# Lists that a strategic patch merges by a key: an address that is gone would stay for ever.
MERGED_LISTS = ("hostIPs", "podIPs")


class _PodReport(msgspec.Struct):
    status: dict[str, msgspec.Raw]


_decoder = msgspec.json.Decoder(_PodReport)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class PodWriter:
    """Writes statuses of pods bound to the reporting node; the uid is a precondition of every write."""

    def __init__(self, api: NodeApi, pods: Informer, written: WrittenStatuses) -> None:
        self._api, self._pods, self._written = api, pods, written

    async def write(self, node: str, delta: Delta) -> str:
        """Write the report; return its result. Raises: RefusedError, KubeApiError."""
        if not delta.uid:
            raise RefusedError("it carries no uid")
        try:
            pod = await self._own_pod(node, delta.key)
            if delta.op is Op.TOMBSTONE:
                return await self._finish_delete(node, delta, pod)
            if delta.op is not Op.UPSERT:
                raise RefusedError(f"{delta.op.name} of a pod has no meaning")
            await self._patch_status(node, delta)
        except (KubeNotFoundError, KubeConflictError):  # gone, or another pod has its name now
            return "gone"
        return "written"

    async def _own_pod(self, node: str, key: ObjectKey) -> KubeObject:
        pod = self._pods.get(key) or await self._read(node, key)
        if place_pod(pod.body).node != node:
            raise RefusedError("the pod is not bound to this node")
        return pod

    async def _read(self, node: str, key: ObjectKey) -> KubeObject:
        """Ask the API server: this replica's cache may be behind the one that sent the pod."""
        raw = await self._api.get(node, PODS.path(key))
        return read_object(PODS.kind, raw)

    async def _patch_status(self, node: str, delta: Delta) -> None:
        reported = decode(_decoder, delta.body).status
        status: dict[str, object] = dict.fromkeys(OWNED) | reported
        for name in MERGED_LISTS:
            if name in reported:
                status[name] = [REPLACE, *decode(_list_decoder, bytes(reported[name]))]
        if "conditions" in reported:
            status["conditions"] = whole_conditions(reported["conditions"])
        patch = encode({"metadata": {"uid": delta.uid}, "status": status})
        # Strategic: the scheduler's PodScheduled condition is merged by type and stays.
        path = PODS.path(delta.key, "status")
        self._written.writing(delta.key)
        answer = await self._api.patch(node, path, patch, STRATEGIC_PATCH)
        self._written.wrote(node, answer, self._shown_version)

    def _shown_version(self, key: ObjectKey) -> str:
        shown = self._pods.get(key)
        return shown.resource_version if shown else ""

    async def _finish_delete(self, node: str, delta: Delta, pod: KubeObject) -> str:
        # A node that lost its records must not delete pods nobody asked to delete.
        if pod.uid == delta.uid and not pod.deleting:
            pod = await self._read(node, delta.key)
            if pod.uid == delta.uid and not pod.deleting:
                raise RefusedError("nobody asked to delete this pod")
        if (
            delta.body
        ):  # its last status: who waits for this pod's exit code finds it before it is gone
            await self._patch_status(node, delta)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": delta.uid},
        }
        await self._api.delete(node, PODS.path(delta.key), encode(options))
        return "written"
