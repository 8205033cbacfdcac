"""What becomes of each field of a pod's spec on this node: the table behind docs/pods.md; pure.

A path is written without numbers, and `initContainers` and `ephemeralContainers` count as `containers`. A field that
has a place in the structs is served; the others are listed here; what is in neither comes from a newer API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args

import msgspec

from edgecore.edged.spec.parts import Part
from edgecore.edged.spec.podspec import PodSpec


class Verdict(Enum):
    """What this node does with a field; the values are the words of docs/pods.md."""

    SERVED = "served"
    ELSEWHERE = "not the node's"
    REFUSED = "refused"
    UNKNOWN = "unknown"


# Fields that admission reads from the document itself.
READ_BY_ADMISSION = ("spec.affinity", "spec.nodeSelector", "spec.os", "spec.tolerations")
# Fields that mean nothing on a node: whose they are.
ELSEWHERE: Mapping[str, str] = {
    "spec.automountServiceAccountToken": "the API server's: it adds the volume",
    "spec.preemptionPolicy": "the scheduler's",
    "spec.priorityClassName": "the API server's: it sets `priority`",
    "spec.schedulerName": "the scheduler's",
    "spec.schedulingGates": "the scheduler's",
    "spec.serviceAccount": "the old name of `serviceAccountName`",
    "spec.topologySpreadConstraints": "the scheduler's",
    "spec.securityContext.seLinuxChangePolicy": "of use with SELinux mount options only, which no volume here has",
    "spec.securityContext.windowsOptions": "Windows': ignored on Linux, as upstream",
    "spec.volumes.ephemeral.volumeClaimTemplate": "a controller's: it makes the claim",
    "spec.containers.resizePolicy": "of use when resources change in place, which this API release does not allow",
    "spec.containers.securityContext.windowsOptions": "Windows': ignored on Linux, as upstream",
}

_VOLUME_TYPES = (
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "fc", "flexVolume",
    "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "image", "iscsi", "nfs", "photonPersistentDisk",
    "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume",
)  # fmt: skip

# Fields that are never served: setting one is refused with this reason. The sentences are in `refusals.py`, those
# of volumes in `volumes/refusals.py`.
REFUSED: Mapping[str, str] = {
    "spec.resourceClaims": "PodFeatureUnsupported",
    "spec.resources.claims": "PodFeatureUnsupported",
    "spec.containers.resources.claims": "PodFeatureUnsupported",
    "spec.containers.volumeDevices": "CreateContainerConfigError",
    "spec.volumes.projected.sources.clusterTrustBundle": "FailedMount",
    **{f"spec.volumes.{kind}": "FailedMount" for kind in _VOLUME_TYPES},
}

# What plain processes, on a node without a container runtime, are not given or held to.
NOT_OF_PROCESSES = frozenset(
    {
        "spec.runtimeClassName",
        "spec.dnsConfig",
        "spec.hostname",
        "spec.subdomain",
        "spec.securityContext.appArmorProfile",
        "spec.securityContext.seccompProfile",
        "spec.securityContext.seLinuxOptions",
        "spec.securityContext.sysctls",
        "spec.containers.ports.hostPort",
        "spec.containers.resources.limits",
        "spec.containers.securityContext.appArmorProfile",
        "spec.containers.securityContext.capabilities",
        "spec.containers.securityContext.seccompProfile",
        "spec.containers.securityContext.seLinuxOptions",
    }
)

# Values that ask for nothing.
_NOTHING: tuple[object, ...] = (False, "", 0, [], {}, "None", "Default")
# A type of volume that is not known keeps its pod from starting, with an Event of its own.
_TOLD_AS_VOLUMES = ("spec.volumes", "spec.volumes.projected.sources")
_CONTAINER_LISTS = ("initContainers", "ephemeralContainers")


def verdict(path: str) -> Verdict:
    """Return what this node does with the field at `path`, such as `spec.containers.env.value`."""
    if path in REFUSED:
        return Verdict.REFUSED
    if path in ELSEWHERE:
        return Verdict.ELSEWHERE
    if path in READ_BY_ADMISSION:
        return Verdict.SERVED
    shape: Any = PodSpec
    for name in path.split(".")[1:]:
        fields = _fields(shape)
        if name not in fields:
            return Verdict.UNKNOWN
        shape = _struct_in(fields[name])
    return Verdict.SERVED


def unknown_fields(spec: Mapping[str, Any]) -> list[str]:
    """Return the paths of the members of `spec` that ask for something and have no verdict, sorted."""
    found = set(_walk(spec, PodSpec, "spec"))
    return sorted(path for path in found if path.rpartition(".")[0] not in _TOLD_AS_VOLUMES)


def not_of_processes(spec: Mapping[str, Any]) -> list[str]:
    """Return the paths of what `spec` asks for and plain processes do not get, sorted."""
    return sorted({path for path in _set_paths(spec, "spec") if path in NOT_OF_PROCESSES})


def _set_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _set_paths(item, path)
    elif isinstance(value, dict):
        for name, member in value.items():
            written = "containers" if name in _CONTAINER_LISTS and path == "spec" else name
            if member not in _NOTHING:
                yield f"{path}.{written}"
                yield from _set_paths(member, f"{path}.{written}")


def _walk(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Yield the paths of the members of `value` that `shape` has no field for."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, shape, path)
    elif isinstance(value, dict) and (fields := _fields(shape)):
        for name, member in value.items():
            written = "containers" if name in _CONTAINER_LISTS and path == "spec" else name
            inner = f"{path}.{written}"
            if name in fields and inner not in REFUSED:
                yield from _walk(member, _struct_in(fields[name]), inner)
            elif (
                inner not in (*ELSEWHERE, *READ_BY_ADMISSION)
                and inner not in REFUSED
                and member not in _NOTHING
            ):
                yield inner


def _fields(shape: Any) -> dict[str, Any]:
    return {f.encode_name: f.type for f in msgspec.structs.fields(shape)} if shape else {}


def _struct_in(shape: Any) -> Any:
    """Return the struct within `tuple[Struct, ...]`, `Struct | None` or `Annotated[...]`; None if there is none."""
    if isinstance(shape, type) and issubclass(shape, Part):
        return shape
    for part in get_args(shape):
        if (found := _struct_in(part)) is not None:
            return found
    return None
