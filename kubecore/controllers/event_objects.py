"""Event objects that kubecore's own components write."""

from __future__ import annotations

import logging
import secrets
from typing import Any, Literal

from corekit.timestamps import rfc3339
from kubecore.controllers.mirror import ObjectClient, builtin
from kubecore.errors import ApiStatusError

logger = logging.getLogger(__name__)
# Kubernetes' limit for a core/v1 event.
MAX_MESSAGE_CHARS = 1024


def event_about(
    obj: dict[str, Any],
    kind: Literal["Normal", "Warning"],
    reason: str,
    message: str,
    *,
    component: str,
    now_s: float,
) -> dict[str, Any]:
    """Return a core/v1 Event about `obj`; about a cluster-scoped object it belongs to `default`."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    stamp = rfc3339(now_s)
    about = {
        "apiVersion": obj.get("apiVersion", "v1"),
        "kind": obj["kind"],
        "name": metadata["name"],
        "namespace": namespace,
        # kubectl describe node looks for events whose uid is the node's name.
        "uid": metadata.get("uid", "") if namespace else metadata["name"],
        "resourceVersion": metadata.get("resourceVersion", ""),
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200].rstrip('-.')}.{secrets.token_hex(8)}",
            "namespace": namespace or "default",
        },
        "involvedObject": {key: value for key, value in about.items() if value},
        "type": kind,
        "reason": reason,
        "message": message[:MAX_MESSAGE_CHARS],
        "source": {"component": component},
        "reportingComponent": component,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


async def record(client: ObjectClient, event: dict[str, Any]) -> None:
    """Store `event`; one that cannot be stored is only a line in the log: it decides nothing."""
    try:
        await client.create(builtin(client, "", "events"), event["metadata"]["namespace"], event)
    except ApiStatusError as exc:
        logger.debug("event %s not stored: %s", event["reason"], exc)
