"""Whom to end first, and what is said of it: kubelet's order and words; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from edgecore.edged.admission.demands import Demands
from edgecore.edged.spec.quantity import ceil_of, shown_bytes
from edgecore.edged.thresholds import (
    IMAGEFS,
    IMAGEFS_INODES,
    NODEFS,
    NODEFS_INODES,
    RESOURCES,
    Observations,
    Threshold,
)


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """What one container uses and has asked for, in bytes; a limit of 0 is none."""

    name: str
    memory: int = 0
    layer: int = 0
    logs: int = 0
    memory_request: Decimal = Decimal(0)
    storage_request: Decimal = Decimal(0)
    storage_limit: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """What one volume on the node's disk, or in its memory, holds; a limit of 0 is none."""

    name: str
    used: int
    limit: Decimal = Decimal(0)
    in_memory: bool = False
    limit_text: str = ""  # as the pod writes it


@dataclass(frozen=True, slots=True)
class PodUse:
    """One pod that could be ended: what it asked for, and what it uses.

    Units:   bytes, inodes, processes. Shapes:  other: the agent's own files for it.
    """

    demands: Demands
    containers: Sequence[ContainerUse] = ()
    volumes: Sequence[VolumeUse] = ()
    layer_inodes: int = 0
    local_inodes: int = 0
    processes: int = 0
    other: int = 0
    storage_limit: Decimal = Decimal(0)

    @property
    def memory(self) -> int:
        """Return the working set of all containers."""
        return sum(c.memory for c in self.containers)

    @property
    def storage(self) -> int:
        """Return what the pod takes of the node's disks."""
        return self.local + sum(c.layer for c in self.containers)

    @property
    def local(self) -> int:
        """Return what the pod takes of the node's own disk, writable layers left out."""
        volumes = sum(v.used for v in self.volumes if not v.in_memory)
        return sum(c.logs for c in self.containers) + volumes + self.other


@dataclass(frozen=True, slots=True)
class Verdict:
    """A pod that must end, and why."""

    uid: str
    message: str


def ranked(pods: Sequence[PodUse], signal: str, *, own_image_disk: bool) -> list[PodUse]:
    """Return `pods`, the first to be ended first.

    Who uses more than it asked for comes first, then lower priority, then the more used over the request.
    Shapes:  own_image_disk: writable layers lie on another disk than logs and volumes.
    """
    resource = RESOURCES[signal]

    def key(pod: PodUse) -> tuple[bool, int, Decimal, str]:
        used = Decimal(_used(pod, signal, own_image_disk=own_image_disk))
        request = pod.demands.requests.get(resource, Decimal(0))
        over = used - request
        # Processes and inodes cannot be asked for; of them kubelet ranks by priority and use alone.
        exceeds = over > 0 if resource in ("memory", "ephemeral-storage") else True
        return (not exceeds, pod.demands.priority, -over, pod.demands.uid)

    return sorted(pods, key=key)


def starved_message(pod: PodUse, threshold: Threshold, observations: Observations) -> str:
    """Return why `pod` is ended for the sake of `threshold`."""
    resource = RESOURCES[threshold.signal]
    parts = [f"The node was low on resource: {resource}. "]
    seen = observations.get(threshold.signal)
    if seen is not None:
        quantity, left = threshold.quantity(seen.capacity), seen.available
        shown = (
            (shown_bytes(int(quantity)), shown_bytes(left))
            if resource in ("memory", "ephemeral-storage")
            else (str(int(quantity)), str(left))
        )
        parts.append(f"Threshold quantity: {shown[0]}, available: {shown[1]}. ")
    for container in pod.containers:
        used, request = _blame(container, resource)
        if used > request:
            parts.append(
                f"Container {container.name} was using {shown_bytes(used)}, request is "
                f"{shown_bytes(ceil_of(request))}, has larger consumption of {resource}. "
            )
    return "".join(parts)


def over_own_limits(pods: Sequence[PodUse], *, own_image_disk: bool) -> list[Verdict]:
    """Return the pods that hold more on the node's disk than they may, whether or not it is short."""
    verdicts: list[Verdict] = []
    for pod in pods:
        message = "" if pod.demands.critical else _own_limit(pod, own_image_disk=own_image_disk)
        if message:
            verdicts.append(Verdict(pod.demands.uid, message))
    return verdicts


def _own_limit(pod: PodUse, *, own_image_disk: bool) -> str:
    for volume in pod.volumes:
        if volume.limit > 0 and volume.used > volume.limit:
            shown = volume.limit_text or shown_bytes(ceil_of(volume.limit))
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{shown}". '
    if pod.storage_limit > 0 and pod.storage > pod.storage_limit:
        shown = shown_bytes(ceil_of(pod.storage_limit))
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
    for container in pod.containers:
        used = container.logs + (0 if own_image_disk else container.layer)
        if container.storage_limit > 0 and used > container.storage_limit:
            shown = shown_bytes(ceil_of(container.storage_limit))
            return (
                f'Container {container.name} exceeded its local ephemeral storage limit "{shown}". '
            )
    return ""


def _used(pod: PodUse, signal: str, *, own_image_disk: bool) -> int:
    layers = sum(c.layer for c in pod.containers)
    uses: Mapping[str, int] = {
        NODEFS: pod.local if own_image_disk else pod.storage,
        IMAGEFS: layers if own_image_disk else pod.storage,
        NODEFS_INODES: pod.local_inodes + (0 if own_image_disk else pod.layer_inodes),
        IMAGEFS_INODES: pod.layer_inodes + (0 if own_image_disk else pod.local_inodes),
    }
    if signal in uses:
        return uses[signal]
    return pod.memory if RESOURCES[signal] == "memory" else pod.processes


def _blame(container: ContainerUse, resource: str) -> tuple[int, Decimal]:
    if resource == "memory":
        return container.memory, container.memory_request
    if resource == "ephemeral-storage":
        return container.layer + container.logs, container.storage_request
    return 0, Decimal(0)
