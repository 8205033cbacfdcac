"""Notices that somebody else wrote over a pod's status: its node cannot know, and its own view has to come back.

Compares what the API server answered to our write with what the watch shows after it, in what a node's agent owns.
Remembers a hash per pod, no status. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cloudcore.kube.decoding import decode
from cloudcore.kube.resources import PODS, KubeObject, read_object
from synccore.messages import ObjectKey

# Others write conditions of their own: the scheduler, controllers of readiness gates, an eviction.
_NODES_CONDITIONS = frozenset(
    {"PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"}
)


class _Condition(msgspec.Struct):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class _Status(msgspec.Struct, rename="camel"):
    """What a node's agent owns of a status; what is not decoded here is not compared."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: list[_Condition] | None = None
    container_statuses: msgspec.Raw = msgspec.Raw(b"")
    init_container_statuses: msgspec.Raw = msgspec.Raw(b"")
    ephemeral_container_statuses: msgspec.Raw = msgspec.Raw(b"")


class _Pod(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Written(msgspec.Struct, gc=False):
    """Our newest write of one pod; `seen`: the watch has shown it, so what it shows from now on is newer."""

    node: str
    uid: str
    resource_version: str
    print: int
    seen: bool


_pods = msgspec.json.Decoder(_Pod)


class WrittenStatuses:
    """The statuses that this process wrote for nodes; `overwritten(node)` is called when another one stands there."""

    def __init__(self, overwritten: Callable[[str], None]) -> None:
        self._overwritten = overwritten
        self._written: dict[ObjectKey, _Written] = {}

    def writing(self, key: ObjectKey) -> None:
        """Compare nothing of `key` from now on: what the watch shows next may be the write that begins."""
        self._written.pop(key, None)

    def wrote(self, node: str, answer: bytes, shown_version: Callable[[ObjectKey], str]) -> None:
        """Note the API server's answer to a write. Shapes: shown_version: of a pod as the watch shows it now."""
        try:
            obj = read_object(PODS.kind, answer)
            made = _Written(node, obj.uid, obj.resource_version, _print(answer), seen=False)
        except msgspec.DecodeError:  # with odd types in it: nothing to compare with
            return
        made.seen = obj.resource_version == shown_version(obj.key)
        self._written[obj.key] = made

    def look(self, obj: KubeObject) -> None:
        """Take what the watch shows, with its whole body."""
        known = self._written.get(obj.key)
        if known is None:
            return
        if known.uid != obj.uid:
            del self._written[obj.key]
        elif not known.seen:  # it may be older than our write
            known.seen = known.resource_version == obj.resource_version
        elif known.print != _print_or_none(obj.body):
            # Said once: the node's next write is compared again.
            del self._written[obj.key]
            self._overwritten(known.node)

    def forget(self, key: ObjectKey) -> None:
        """Forget a pod that is gone."""
        self._written.pop(key, None)


def _print(body: bytes) -> int:
    """Return a hash of what a node owns of a pod's status; both sides come from the same API server, byte for byte."""
    status = decode(_pods, body).status
    said = sorted(
        (c.type, c.status, c.reason, c.message)
        for c in status.conditions or ()
        if c.type in _NODES_CONDITIONS
    )
    lists = (
        status.container_statuses,
        status.init_container_statuses,
        status.ephemeral_container_statuses,
    )
    plain = (status.phase, status.reason, status.message, status.host_ip, status.pod_ip)
    return hash((*plain, *said, *(bytes(part) for part in lists)))


def _print_or_none(body: bytes) -> int | None:
    try:
        return _print(body)
    except msgspec.DecodeError:
        return None
