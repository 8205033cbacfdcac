"""What the kubelet API must know of pods: which are here, which container is meant, and how it is.

Reads its own few fields of a Pod, so that it does not care how the rest of the spec is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from edgecore.edged.runtime import ContainerPhase, ContainerState, SandboxState
from edgecore.records import RecordStore, StoredObject
from edgecore.streams import StreamRefusedError
from synccore.messages import ObjectKey
from synccore.targets import Label
from synccore.tunnels import BAD_REQUEST, NOT_FOUND


class StatusView(Protocol):
    """Statuses of this node's pods."""

    def status_of(self, uid: str) -> Mapping[str, Any] | None:
        """Return the newest status of the pod, as it was reported; None if there is none."""


class PodContainer(msgspec.Struct, frozen=True):
    """A container of the spec."""

    name: Label
    tty: bool = False


class _Metadata(msgspec.Struct, frozen=True):
    name: Label
    namespace: Label
    uid: Label


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    containers: tuple[PodContainer, ...] = ()
    init_containers: tuple[PodContainer, ...] = ()
    ephemeral_containers: tuple[PodContainer, ...] = ()


class PodEntry(msgspec.Struct, frozen=True):
    """One pod."""

    metadata: _Metadata
    spec: _Spec

    @property
    def full_name(self) -> str:
        """What kubelet calls it in a folder's name."""
        meta = self.metadata
        return f"{meta.namespace}_{meta.name}_{meta.uid}"

    def container(self, name: str) -> PodContainer:
        """Return the container of that name. Raises: StreamRefusedError."""
        spec = self.spec
        for one in (*spec.containers, *spec.init_containers, *spec.ephemeral_containers):
            if one.name == name:
                return one
        problem = f'container "{name}" not found in pod "{self.metadata.name}"'
        raise StreamRefusedError(NOT_FOUND, problem)


async def find_pod(
    store: RecordStore, namespace: str, name: str, uid: str | None
) -> tuple[PodEntry, StoredObject]:
    """Return the pod of that name. Raises: StreamRefusedError: it is not here, or is another one."""
    stored = await store.get(ObjectKey("Pod", namespace, name))
    if stored is None or uid not in (None, "", stored.uid):
        raise StreamRefusedError(NOT_FOUND, f'pod "{name}" not found')
    try:
        return msgspec.json.decode(stored.body, type=PodEntry), stored
    except msgspec.DecodeError as exc:
        raise StreamRefusedError(BAD_REQUEST, f'pod "{name}" does not decode: {exc}') from exc


def newest(sandboxes: list[SandboxState], name: str) -> ContainerState | None:
    """Return the latest attempt of a container that was started."""
    found = [
        c
        for sandbox in sandboxes
        for c in sandbox.containers
        if c.name == name and c.phase is not ContainerPhase.CREATED
    ]
    return max(found, key=lambda c: (c.attempt, c.created_s), default=None)


def running(sandboxes: list[SandboxState], pod: PodEntry, name: str) -> ContainerState:
    """Return the running container of that name. Raises: StreamRefusedError."""
    pod.container(name)
    container = newest(sandboxes, name)
    if container is None or container.phase is not ContainerPhase.RUNNING:
        problem = f'container "{name}" in pod "{pod.metadata.name}" is not running'
        raise StreamRefusedError(BAD_REQUEST, problem)
    return container


def container_status(status: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """Return the status of one container, an empty one if there is none."""
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for one in (status or {}).get(field) or ():
            if one.get("name") == name:
                found: Mapping[str, Any] = one
                return found
    return {}
