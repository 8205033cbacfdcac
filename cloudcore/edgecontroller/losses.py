"""What nodes had to give up, told where people look: a Warning Event of the Node, a counter, a log line."""

from __future__ import annotations

import logging
from collections import OrderedDict
from hashlib import sha256

import msgspec

from cloudcore import metrics
from cloudcore.edgecontroller.reports import NodeApi, RefusedError, decode, encode
from cloudcore.kube.errors import KubeConflictError
from cloudcore.kube.resources import EVENTS
from synccore.messages import Delta, Lane, ObjectKey, Op

logger = logging.getLogger(__name__)

REASON = "RecordsLost"
_NAMESPACE = "default"  # where the API keeps Events of cluster-scoped objects
_MAX_NODE_CHARS = 200
# Reports whose count is remembered, so that one that grew is counted once; an old one again is counted twice.
_MAX_COUNTED = 4096
_LANES = {lane.name.lower() for lane in Lane}
_REASONS = {"drop-oldest", "thin", "too-old", "damaged"}


class _Loss(msgspec.Struct, rename="camel"):
    lane: str
    reason: str
    first_sequence: int
    last_sequence: int
    count: int
    bytes: int
    first_time: str
    last_time: str


_decoder = msgspec.json.Decoder(_Loss)


class LossWriter:
    """Writes Loss reports as Events of the reporting node; the same report again changes nothing."""

    def __init__(self, api: NodeApi) -> None:
        self._api = api
        self._counted: OrderedDict[tuple[str, ObjectKey], int] = OrderedDict()

    async def write(self, node: str, delta: Delta) -> str:
        """Write the report; return its result. Raises: RefusedError, KubeApiError."""
        if delta.op is not Op.UPSERT:
            raise RefusedError(f"{delta.op.name} of a loss has no meaning")
        loss = decode(_decoder, delta.body)
        # They become labels of a counter, and a node must not make those grow.
        if loss.lane not in _LANES or loss.reason not in _REASONS or loss.count < 0:
            raise RefusedError(f"lane {loss.lane[:40]!r}, reason {loss.reason[:40]!r}")
        name = _name(node, delta.key)
        event = _event(node, name, loss)
        path = EVENTS.path(ObjectKey("Event", _NAMESPACE, name))
        try:
            await self._api.post(node, EVENTS.within(_NAMESPACE), encode(event))
        except KubeConflictError:
            changed = {key: event[key] for key in ("message", "count", "lastTimestamp")}
            await self._api.patch(node, path, encode(changed))
        self._count(node, delta.key, loss)
        return "written"

    def _count(self, node: str, key: ObjectKey, loss: _Loss) -> None:
        before = self._counted.pop((node, key), 0)
        self._counted[node, key] = loss.count
        if len(self._counted) > _MAX_COUNTED:
            self._counted.popitem(last=False)
        if loss.count > before:
            metrics.losses.labels(loss.lane, loss.reason).inc(loss.count - before)
            logger.warning("node lost reports: %s", _message(loss), extra={"node": node})


def _message(loss: _Loss) -> str:
    return (
        f"{loss.count} log entries of lane {loss.lane} ({loss.bytes} bytes) between {loss.first_time} and "
        f"{loss.last_time} lost at the edge: {loss.reason}, sequences {loss.first_sequence} to {loss.last_sequence}"
    )


def _name(node: str, key: ObjectKey) -> str:
    digest = sha256(f"{node}\0{key.name}".encode(errors="replace")).hexdigest()[:16]
    return f"{node[:_MAX_NODE_CHARS]}.{digest}"


def _event(node: str, name: str, loss: _Loss) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "reason": REASON,
        "message": _message(loss),
        "type": "Warning",
        "count": 1,
        "firstTimestamp": loss.first_time,
        "lastTimestamp": loss.last_time,
        "source": {"component": "edgecore", "host": node},
        "reportingComponent": "edgecore",
        "reportingInstance": node,
    }
