"""What a node cannot know of itself: the labels and taints that others gave its Node object."""

from __future__ import annotations

import msgspec

from cloudcore.edgecontroller.reports import encode
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import NODES
from synccore.messages import ObjectKey

KIND = "Node"


class _Metadata(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Taint(msgspec.Struct, omit_defaults=True):
    key: str
    effect: str
    value: str = ""


class _Spec(msgspec.Struct):
    taints: list[_Taint] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


_decoder = msgspec.json.Decoder(_Node)


class NodeFacts:
    """Answers the question Node (docs/protocol.md, section 10), about the node that asks and no other."""

    def __init__(self, nodes: Informer) -> None:
        self._nodes = nodes

    async def answer(self, node: str, _body: bytes) -> tuple[int, bytes]:
        """Return the node's labels and taints as the informer has them."""
        known = self._nodes.get(ObjectKey(NODES.kind, "", node))
        if known is None:
            return 404, f'nodes "{node}" not found'.encode()
        found = _decoder.decode(known.body)
        return 200, encode(
            {"labels": found.metadata.labels or {}, "taints": found.spec.taints or []}
        )
