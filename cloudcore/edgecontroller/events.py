"""Kubernetes Events from the edge: made once, then counted up."""

from __future__ import annotations

import msgspec

from cloudcore.edgecontroller.references import place_device, place_pod
from cloudcore.edgecontroller.reports import NodeApi, RefusedError, decode, encode
from cloudcore.kube.errors import KubeConflictError, KubeForbiddenError, KubeNotFoundError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import EVENTS
from synccore.messages import Delta, ObjectKey, Op


class _Metadata(msgspec.Struct):
    name: str
    namespace: str


class _Involved(msgspec.Struct):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class _EventReport(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    involved_object: _Involved
    message: str = ""
    count: int = 1
    last_timestamp: str | None = None


_decoder = msgspec.json.Decoder(_EventReport)


class EventWriter:
    """Writes events about a node itself, its pods and its devices; nothing about anything else."""

    def __init__(self, api: NodeApi, pods: Informer, devices: Informer) -> None:
        self._api = api
        self._placed = {"Pod": (pods, place_pod), "Device": (devices, place_device)}

    async def write(self, node: str, delta: Delta) -> str:
        """Write the report; return its result. Raises: RefusedError, KubeApiError."""
        if delta.op not in (Op.UPSERT, Op.APPEND):
            raise RefusedError(f"{delta.op.name} of an event has no meaning")
        report = decode(_decoder, delta.body)
        if (report.metadata.namespace, report.metadata.name) != delta.key[1:]:
            raise RefusedError("its body has another name than its key")
        self._refuse_foreign(node, report.involved_object)
        try:
            await self._store(node, delta, report)
        except KubeForbiddenError as exc:
            if exc.impersonation:
                raise
            return "dropped"  # its namespace is being deleted; so is all that it could tell about
        except KubeNotFoundError:
            return "dropped"  # the namespace is gone
        return "written"

    async def _store(self, node: str, delta: Delta, report: _EventReport) -> None:
        # The message too: an event that stands for many similar ones says what the last one was.
        counted = encode(
            {
                "count": report.count,
                "message": report.message,
                "lastTimestamp": report.last_timestamp,
            }
        )
        path, collection = EVENTS.path(delta.key), EVENTS.within(delta.key.namespace)
        if report.count <= 1:
            try:
                await self._api.post(node, collection, delta.body)
            except KubeConflictError:  # sent again after a lost acknowledgement
                await self._api.patch(node, path, counted)
            return
        try:
            await self._api.patch(node, path, counted)
        except KubeNotFoundError:  # events expire after an hour
            await self._api.post(node, collection, delta.body)

    def _refuse_foreign(self, node: str, about: _Involved) -> None:
        if about.kind == "Node":
            own = about.name == node
        elif about.kind in self._placed:
            informer, place = self._placed[about.kind]
            obj = informer.get(ObjectKey(about.kind, about.namespace, about.name))
            # Gone already is usual: the last event of a pod is often later than its end.
            own = obj is None or obj.uid != about.uid or place(obj.body).node == node
        else:
            own = False
        if not own:
            raise RefusedError(
                f"{about.kind[:40]} {about.name[:80]} is not this node's to tell about"
            )
