"""The Kubernetes Event that tells of a damaged database."""

from __future__ import annotations

import hashlib

import msgspec

from corekit.timestamps import rfc3339
from edgecore.records import Report
from synccore.messages import Lane, ObjectKey

REASON = "StoreRebuilt"
_NAMESPACE = "default"  # where the API keeps Events of cluster-scoped objects
_MAX_NODE_CHARS = 200  # a name has 253 at most
_MAX_MESSAGE_CHARS = 1024  # the API server's limit


def rebuilt_event(node_name: str, message: str, wall_s: float) -> Report:
    """Return the report of an Event about the node. Units: wall_s: Unix seconds."""
    now = rfc3339(wall_s)
    digest = hashlib.sha256(f"{REASON} {message} {now}".encode(errors="replace")).hexdigest()
    name = f"{node_name[:_MAX_NODE_CHARS]}.{digest[:16]}"
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        # kubelet's habit: a node's name stands for its uid, which the node does not know.
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_name},
        "reason": REASON,
        "message": message[:_MAX_MESSAGE_CHARS],
        "type": "Warning",
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "edgecore", "host": node_name},
        "reportingComponent": "edgecore",
        "reportingInstance": node_name,
    }
    key = ObjectKey("Event", _NAMESPACE, name)
    return Report(key, "", msgspec.json.encode(body), Lane.SAMPLES)
