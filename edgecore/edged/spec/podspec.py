"""The part of a Pod that this node serves, as typed values; it decodes strictly and knows no runtime.

A field of the Pod that has no place in these structs has its verdict in `fields.py`, which finds it by comparing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from corekit.errors import EdgeError
from edgecore.edged.spec.container import Container, EnvFrom, EnvSource, EnvVar, Resources
from edgecore.edged.spec.network import DnsConfig, DnsOption, HostAlias, Port
from edgecore.edged.spec.parts import Name, Part, Quantity, Seconds
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.spec.security import (
    AppArmorProfile,
    Capabilities,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
    Sysctl,
)
from edgecore.edged.spec.sources import FieldRef, KeyRef, ObjectRef, ResourceFieldRef
from edgecore.edged.spec.volume import (
    ConfigMapVolume,
    DownwardFile,
    DownwardVolume,
    EmptyDir,
    HostPath,
    KeyToPath,
    Projected,
    ProjectedConfigMap,
    ProjectedDownward,
    ProjectedSource,
    ProjectedToken,
    SecretVolume,
    Volume,
    VolumeMount,
)

__all__ = [
    "DEFAULT_GRACE_S",
    "AppArmorProfile",
    "Capabilities",
    "ConfigMapVolume",
    "Container",
    "DnsConfig",
    "DnsOption",
    "DownwardFile",
    "DownwardVolume",
    "EmptyDir",
    "EnvFrom",
    "EnvSource",
    "EnvVar",
    "FieldRef",
    "HostAlias",
    "HostPath",
    "KeyRef",
    "KeyToPath",
    "Name",
    "ObjectMeta",
    "ObjectRef",
    "Part",
    "Pod",
    "PodSecurityContext",
    "PodSpec",
    "PodSpecError",
    "Port",
    "Projected",
    "ProjectedConfigMap",
    "ProjectedDownward",
    "ProjectedSource",
    "ProjectedToken",
    "Quantity",
    "ResourceFieldRef",
    "Resources",
    "SELinuxOptions",
    "SeccompProfile",
    "Seconds",
    "SecretVolume",
    "SecurityContext",
    "Sysctl",
    "Volume",
    "VolumeMount",
    "decode_identity",
    "decode_pod",
]

DEFAULT_GRACE_S = 30


class PodSpecError(EdgeError):
    """A stored object is not a Pod that can be run; `problem` names the field."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"pod does not decode: {problem}")


class ReadinessGate(Part, frozen=True):
    """A condition that others set and that must hold for the pod to be ready."""

    condition_type: str


class PodSpec(Part, frozen=True):
    """What the pod shall be."""

    containers: Annotated[tuple[Container, ...], msgspec.Meta(min_length=1)]
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    readiness_gates: tuple[ReadinessGate, ...] = ()
    volumes: tuple[Volume, ...] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: Seconds = DEFAULT_GRACE_S
    active_deadline_seconds: Seconds | None = None
    node_name: str = ""
    hostname: str = ""
    host_network: bool = False
    host_pid: bool = field(default=False, name="hostPID")
    host_ipc: bool = field(default=False, name="hostIPC")
    host_aliases: tuple[HostAlias, ...] = ()
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] = (
        "ClusterFirst"
    )
    dns_config: DnsConfig | None = None
    service_account_name: str = ""
    image_pull_secrets: tuple[ObjectRef, ...] = ()
    subdomain: str = ""
    set_hostname_as_fqdn: bool = field(default=False, name="setHostnameAsFQDN")
    share_process_namespace: bool = False
    host_users: bool = True
    enable_service_links: bool = True
    runtime_class_name: str = ""
    overhead: dict[str, Quantity] = field(default_factory=dict)
    resources: Resources = Resources()
    resource_claims: tuple[Any, ...] = ()
    priority: int = 0
    security_context: PodSecurityContext = PodSecurityContext()

    @property
    def every_container(self) -> tuple[Container, ...]:
        """Return init, app and ephemeral containers, in this order."""
        return (*self.init_containers, *self.containers, *self.ephemeral_containers)


class ObjectMeta(Part, frozen=True):
    """Who the pod is."""

    name: Name
    namespace: Name
    uid: Name
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: Seconds | None = None


class GateCondition(Part, frozen=True):
    """A condition of a readiness gate as others have set it."""

    type: str
    status: str = ""


class GateStatus(Part, frozen=True):
    """The part of a pod's status that others own and a node must know."""

    conditions: tuple[GateCondition, ...] = ()


class Pod(Part, frozen=True):
    """A pod, as the cloud wants it."""

    metadata: ObjectMeta
    spec: PodSpec
    status: GateStatus = GateStatus()

    @property
    def full_name(self) -> str:
        """Return `name_namespace(uid)`, as kubelet writes a pod in its messages."""
        return f"{self.metadata.name}_{self.metadata.namespace}({self.metadata.uid})"

    @property
    def is_deleting(self) -> bool:
        """Return whether a delete was asked for."""
        return bool(self.metadata.deletion_timestamp)

    @property
    def grace_s(self) -> int:
        """Return the grace a container gets between SIGTERM and SIGKILL."""
        asked = self.metadata.deletion_grace_period_seconds
        return self.spec.termination_grace_period_seconds if asked is None else asked


class _MetaOnly(Part, frozen=True):
    metadata: ObjectMeta


def decode_pod(body: bytes) -> tuple[Pod, dict[str, Any]]:
    """Return the pod and, for `fields.py`, the whole document with its nulls removed.

    Raises:  PodSpecError: names the field and what was expected of it.
    """
    try:
        tree = _without_nulls(msgspec.json.decode(body))
        pod = msgspec.convert(tree, Pod, strict=True)
        _check(pod)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:  # ValidationError included
        raise PodSpecError(str(exc).replace("`", "").replace("$.", "")) from exc
    return pod, tree


def decode_identity(body: bytes) -> ObjectMeta | None:
    """Return the metadata of an object whose spec does not decode, if at least that does."""
    try:
        tree = _without_nulls(msgspec.json.decode(body))
        return msgspec.convert(tree, _MetaOnly).metadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _without_nulls(value: Any) -> Any:
    """Return `value` without null members: to the API server a null and an absent field are one."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _check(pod: Pod) -> None:
    names: set[str] = set()
    for container in pod.spec.every_container:
        if container.name in names or container.name in (".", ".."):
            raise ValueError(f"container name {container.name!r} is used twice or not a name")
        names.add(container.name)
        _check_amounts(container.resources.requests, container.resources.limits)
    _check_amounts(pod.spec.resources.requests, pod.spec.resources.limits, pod.spec.overhead)
    for part in (pod.metadata.uid, *(v.name for v in pod.spec.volumes)):
        if part in (".", ".."):  # they become folders
            raise ValueError(f"{part!r} is not a name")


def _check_amounts(*tables: Mapping[str, Quantity]) -> None:
    for amounts in tables:
        for name, amount in amounts.items():
            parse_quantity(amount)
            if name.startswith("hugepages-"):
                parse_quantity(name.removeprefix("hugepages-"))
