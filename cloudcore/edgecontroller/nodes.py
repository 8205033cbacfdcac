"""What a node's report of itself becomes in the API: registration once, then its status."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import msgspec

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
from cloudcore.kube.resources import NODES
from synccore.messages import Delta, ObjectKey, Op

logger = logging.getLogger(__name__)

# Ours to set and ours to know nodes by. Not under kubernetes.io: NodeRestriction forbids nodes those.
AGENT_LABEL = "armadillo.edge/agent"
AGENT = "edgecore"


# Which database speaks for the node and how far it was heard; cloudhub's fence makes and reads it.
DATABASE_ANNOTATION = "armadillo.edge/database"
# Where the API server reaches the node through cloudcore, as last written into its status: caches keep no status.
ENDPOINT_ANNOTATION = "armadillo.edge/kubelet-endpoint"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
NOT_READY_TAINT = "node.kubernetes.io/not-ready"


class Standing(Enum):
    """What the cluster holds of a node, as its taints say."""

    READY = "ready"
    NOT_READY = "not ready"  # the node said so itself, or has not said anything yet
    GIVEN_UP = "given up"  # it was not heard of


class _Labelled(msgspec.Struct):
    labels: dict[str, str] | None = None


class _LabelledNode(msgspec.Struct):
    metadata: _Labelled


class _Annotated(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _AnnotatedNode(msgspec.Struct):
    metadata: _Annotated


class _Taint(msgspec.Struct):
    key: str = ""


class _Taints(msgspec.Struct):
    taints: list[_Taint] | None = None


class _TaintedNode(msgspec.Struct):
    spec: _Taints = msgspec.field(default_factory=_Taints)


class _Metadata(msgspec.Struct):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Spec(msgspec.Struct):
    taints: list[dict[str, str]] = []


class Endpoint(NamedTuple):
    """Where the API server reaches a node."""

    address: str
    port: int


class _Address(msgspec.Struct):
    type: str
    address: str


class NodeReport(msgspec.Struct):
    """The body of a Node report; nothing else a node sends is passed on."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: dict[str, msgspec.Raw] = {}


_annotations_decoder = msgspec.json.Decoder(_AnnotatedNode)
_taints_decoder = msgspec.json.Decoder(_TaintedNode)
_labels_decoder = msgspec.json.Decoder(_LabelledNode)
_report_decoder = msgspec.json.Decoder(NodeReport)
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])


def is_edge_node(body: bytes) -> bool:
    """Tell whether the Node in `body` runs our agent."""
    try:
        return AGENT_LABEL in (_labels_decoder.decode(body).metadata.labels or {})
    except msgspec.DecodeError:  # no API server stores such a Node
        return False


def recorded_database(body: bytes) -> str:
    """Return the annotation of the Node in `body` that names its database, or ""."""
    try:
        annotations = _annotations_decoder.decode(body).metadata.annotations or {}
    except msgspec.DecodeError:
        return ""
    return annotations.get(DATABASE_ANNOTATION, "")


def recorded_endpoint(body: bytes) -> str:
    """Return the annotation of the Node in `body` that says where it is reached, or ""."""
    try:
        annotations = _annotations_decoder.decode(body).metadata.annotations or {}
    except msgspec.DecodeError:
        return ""
    return annotations.get(ENDPOINT_ANNOTATION, "")


def standing_of(body: bytes) -> Standing:
    """Return what the cluster holds of the Node in `body`.

    The condition Ready says it first, but caches keep no status; node lifecycle controllers set the taints
    together with it.
    """
    try:
        taints = {taint.key for taint in _taints_decoder.decode(body).spec.taints or []}
    except msgspec.DecodeError:
        return Standing.READY
    if UNREACHABLE_TAINT in taints:
        return Standing.GIVEN_UP
    return Standing.NOT_READY if NOT_READY_TAINT in taints else Standing.READY


def _opening(database: str) -> tuple[str, ...]:
    """Return which database, and which opening of it, an annotation names: the beginning of its id, and its run."""
    name, _, rest = database.partition(":")
    return (name[:8], rest.rpartition(":")[2]) if rest else ()


class NodeWriter:
    """Registers a node, or adopts one that an administrator made before, and writes its status.

    Shapes:  database_of(node): what its annotation must say of its database, "" if nothing. endpoint_of(node):
             where the API server reaches it, None if nowhere.
    """

    def __init__(
        self,
        api: NodeApi,
        nodes: Informer,
        database_of: Callable[[str], str] = lambda _node: "",
        endpoint_of: Callable[[str], Endpoint | None] = lambda _node: None,
    ) -> None:
        self._api, self._nodes = api, nodes
        self._database_of, self._endpoint_of = database_of, endpoint_of
        self._claimed: dict[
            str, tuple[str, ...]
        ] = {}  # by node: what we wrote of its database and saw written

    async def write(self, node: str, delta: Delta) -> str:
        """Write the report; return its result. Raises: RefusedError, KubeApiError."""
        if delta.key != ObjectKey("Node", "", node) or delta.op is not Op.UPSERT:
            raise RefusedError("a node may report itself only")
        report = decode(_report_decoder, delta.body)
        known = self._nodes.get(delta.key)
        if known is None or not is_edge_node(known.body):
            await self._register(node, report)
        try:
            await self._patch_status(node, report)
        except KubeNotFoundError:  # deleted by hand, and the node is still there
            await self._register(node, report)
            await self._patch_status(node, report)
        await self._annotate(node)
        return "written"

    async def _annotate(self, node: str) -> None:
        """Write which database speaks for the node and where it is reached, if the Node does not say so already."""
        key, known = ObjectKey("Node", "", node), self._nodes.get(ObjectKey("Node", "", node))
        body = known.body if known is not None else b"{}"
        wanted: dict[str, str | None] = {}
        database, endpoint = self._database_of(node), self._endpoint_of(node)
        self._note_rival(node, database, recorded_database(body))
        if database and recorded_database(body) != database:
            wanted[DATABASE_ANNOTATION] = database
        place = f"{endpoint.address}:{endpoint.port}" if endpoint else None
        if recorded_endpoint(body) != (place or ""):
            wanted[ENDPOINT_ANNOTATION] = place
        if wanted:
            patch = encode({"metadata": {"annotations": wanted}})
            await self._api.patch(node, NODES.path(key), patch)

    def _note_rival(self, node: str, ours: str, recorded: str) -> None:
        """Say it if another cloudcore speaks for `node` too, for another opening of a database, while this one does.

        Each cloudcore refuses a second machine under one name; neither sees the machine that is connected to the
        other, but in what it writes over ours.
        """
        opening, written = _opening(ours), _opening(recorded)
        if opening and opening == written:
            self._claimed[node] = opening
        elif self._claimed.get(node) == opening and recorded:
            del self._claimed[node]  # once for each time that it is ours again
            logger.warning(
                "two machines use the name of this node, or a copy of its disk is in use: database %s is "
                "connected here, %s to another cloudcore",
                "/".join(opening),
                "/".join(written),
                extra={"node": node},
            )

    async def _register(self, node: str, report: NodeReport) -> None:
        labels = report.metadata.labels | {AGENT_LABEL: AGENT}
        metadata = {"labels": labels, "annotations": report.metadata.annotations}
        made = {
            "apiVersion": NODES.api_version,
            "kind": NODES.kind,
            "metadata": {"name": node, **metadata},
            "spec": {"taints": report.spec.taints},
        }
        try:
            await self._api.post(node, NODES.collection, encode(made))
        except KubeConflictError:
            # Taints stay as they are: whoever removed one since meant it.
            path = NODES.path(ObjectKey("Node", "", node))
            await self._api.patch(node, path, encode({"metadata": metadata}))

    async def _patch_status(self, node: str, report: NodeReport) -> None:
        status: dict[str, object] = dict(report.status)
        endpoint = self._endpoint_of(node)
        # Ours to say: with this a node could send the API server, and what it carries, anywhere.
        status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": endpoint.port if endpoint else 0}}
        if "addresses" in status:
            addresses = decode(_list_decoder, bytes(report.status["addresses"]))
            # The first InternalIP is the one that an API server dials.
            first = [_Address("InternalIP", endpoint.address)] if endpoint else []
            status["addresses"] = [REPLACE, *first, *addresses]
        if "conditions" in status:
            status["conditions"] = whole_conditions(report.status["conditions"])
        path = NODES.path(ObjectKey("Node", "", node), "status")
        # Strategic: conditions of others (a network plugin's) are merged by type and stay.
        await self._api.patch(node, path, encode({"status": status}), STRATEGIC_PATCH)
