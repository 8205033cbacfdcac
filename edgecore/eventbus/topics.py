"""The MQTT topics of devices and of the node, read and written. Source: docs/devices.md "MQTT"."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

_DEVICE = "$hw/events/device/"
_NODE = "$hw/events/node/"
_UPLOAD = "$hw/events/upload/"
_RECORDS = "SYS/dis/upload_records"


class Asked(Enum):
    """What a message to us wants; the value is the topic's tail."""

    TWIN_UPDATE = "twin/update"
    TWIN_GET = "twin/get"
    CLOUD_UPDATED = "twin/cloud_updated"
    STATE_UPDATE = "state/update"
    VALUES = "values"
    MEMBERSHIP_GET = "membership/get"


class Request(NamedTuple):
    """An inbound topic taken apart; `target` is `namespace/name`, or the node's name."""

    asked: Asked
    target: str


_DEVICE_TAILS = {a.value: a for a in Asked if a is not Asked.MEMBERSHIP_GET}


def subscriptions(node: str) -> tuple[str, ...]:
    """Return the topic filters that this node serves."""
    return (
        f"{_DEVICE}+/+/twin/update",
        f"{_DEVICE}+/+/twin/get",
        f"{_DEVICE}+/+/twin/cloud_updated",
        f"{_DEVICE}+/+/state/update",
        f"{_DEVICE}+/+/values",
        f"{_NODE}{node}/membership/get",
        f"{_UPLOAD}#",
        _RECORDS,
        "+/user/#",
    )


# Asked for every message that comes in, and a gateway has some hundred topics: a fifth of a microsecond, not a whole one.
@lru_cache(maxsize=2048)
def parse(topic: str) -> Request | None:
    """Return what an inbound topic asks for, or None if it is none of ours."""
    if topic.startswith(_DEVICE):
        parts = topic[len(_DEVICE) :].split("/", 2)
        asked = _DEVICE_TAILS.get(parts[2]) if len(parts) == 3 else None
        return Request(asked, f"{parts[0]}/{parts[1]}") if asked else None
    if topic.startswith(_NODE):
        node, _, tail = topic[len(_NODE) :].partition("/")
        if tail == Asked.MEMBERSHIP_GET.value:
            return Request(Asked.MEMBERSHIP_GET, node)
    return None


@lru_cache(maxsize=2048)
def source(topic: str) -> str:
    """Return whose message it is, for sharing out fairly: the device's, or else the topic's own."""
    if topic.startswith(_DEVICE):
        namespace, _, rest = topic[len(_DEVICE) :].partition("/")
        return f"{namespace}/{rest.partition('/')[0]}"
    return topic


def is_upload(topic: str) -> bool:
    """Tell whether what is published there goes to the cloud as it is."""
    if topic.startswith((_DEVICE, _NODE)):
        return False
    return topic.startswith(_UPLOAD) or topic == _RECORDS or _is_user(topic)


def is_program(topic: str) -> bool:
    """Tell whether a program may use a topic or topic filter: everything of devices and node, and what is uploaded."""
    return topic.startswith("$hw/") or topic == _RECORDS or _is_user(topic)


def _is_user(topic: str) -> bool:
    first, _, rest = topic.partition("/")
    return (rest == "user" or rest.startswith("user/")) and first not in ("#", "$SYS")


def upload_prefix(device_id: str) -> str:
    """Return what the topics begin with on which a device may upload."""
    return f"{_UPLOAD}{device_id}/"


def device_prefix(device_id: str) -> str:
    """Return what all topics of a device begin with."""
    return f"{_DEVICE}{device_id}/"


def result(request: Request) -> str:
    """Return the topic on which `request` is answered."""
    if request.asked is Asked.CLOUD_UPDATED:  # answered only if something is wrong
        return f"{_DEVICE}{request.target}/twin/update/result"
    prefix = _NODE if request.asked is Asked.MEMBERSHIP_GET else _DEVICE
    return f"{prefix}{request.target}/{request.asked.value}/result"


def unreadable(request: Request) -> str | None:
    """Return the topic on which KubeEdge answers a body that it cannot read, if that is not the device's own."""
    if request.asked in (Asked.TWIN_UPDATE, Asked.CLOUD_UPDATED):
        return f"{_DEVICE}/twin/update/result"
    return None


def delta(device_id: str) -> str:
    """Return the topic that tells a device which values to take."""
    return f"{_DEVICE}{device_id}/twin/update/delta"


def document(device_id: str) -> str:
    """Return the topic that tells of changes, before and after."""
    return f"{_DEVICE}{device_id}/twin/update/document"


def membership_updated(node: str) -> str:
    """Return the topic that tells which devices joined or left the node."""
    return f"{_NODE}{node}/membership/updated"
