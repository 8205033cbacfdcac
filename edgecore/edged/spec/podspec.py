"""The part of a Pod that this node serves, as typed values; it decodes strictly and knows no runtime.

A field of the Pod that has no place in these structs is not served: `unserved.py` finds it by comparing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from corekit.errors import EdgeError
from edgecore.edged.spec.quantity import parse_quantity

DEFAULT_GRACE_S = 30


class PodSpecError(EdgeError):
    """A stored object is not a Pod that can be run; `problem` names the field."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"pod does not decode: {problem}")


class Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all parts of a Pod: immutable, names as Kubernetes writes them."""


Quantity = str | int | float  # strict decoding tells an int from a float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=r"^[^/\x00]+$")]
Seconds = Annotated[int, msgspec.Meta(ge=0)]


class KeyRef(Part, frozen=True):
    """A key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool = False


class ObjectRef(Part, frozen=True):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool = False


class FieldRef(Part, frozen=True):
    """A field of the pod itself."""

    field_path: str
    api_version: str = "v1"


class ResourceFieldRef(Part, frozen=True):
    """A request or limit of a container."""

    resource: str
    container_name: str = ""
    divisor: Quantity = "0"


class EnvSource(Part, frozen=True):
    """Where an environment variable's value comes from."""

    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class EnvVar(Part, frozen=True):
    """One environment variable."""

    name: str
    value: str = ""
    value_from: EnvSource | None = None


class EnvFrom(Part, frozen=True):
    """All keys of a ConfigMap or Secret as environment variables."""

    prefix: str = ""
    config_map_ref: ObjectRef | None = None
    secret_ref: ObjectRef | None = None


class VolumeMount(Part, frozen=True):
    """Where a container sees a volume."""

    name: Name
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False


class Resources(Part, frozen=True):
    """Requests and limits."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Port(Part, frozen=True):
    """A port of a container; only `host_port` changes anything on the node."""

    container_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    host_ip: str = field(default="", name="hostIP")
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    name: str = ""


class Capabilities(Part, frozen=True):
    """Linux capabilities."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(Part, frozen=True):
    """Which seccomp profile."""

    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str = ""


class SecurityContext(Part, frozen=True):
    """A container's security context."""

    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities = Capabilities()
    seccomp_profile: SeccompProfile | None = None


class ExecAction(Part, frozen=True):
    """A command to run in the container."""

    command: tuple[str, ...] = ()


class HttpHeader(Part, frozen=True):
    """One header of a request."""

    name: str
    value: str = ""


PortRef = str | int  # a number, or the name of one of the container's ports


class HttpGetAction(Part, frozen=True):
    """A request to make."""

    port: PortRef
    path: str = ""
    host: str = ""
    scheme: Literal["", "HTTP", "HTTPS"] = ""
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocketAction(Part, frozen=True):
    """A port to connect to."""

    port: PortRef
    host: str = ""


class GrpcAction(Part, frozen=True):
    """A gRPC health service to ask."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    service: str = ""


class SleepAction(Part, frozen=True):
    """A pause."""

    seconds: Seconds = 0


class Probe(Part, frozen=True):
    """A question that is asked of a container again and again.

    Units:   all times in seconds; 0 stands for Kubernetes' default.
    """

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: Seconds = 0
    timeout_seconds: Seconds = 0
    period_seconds: Seconds = 0
    success_threshold: Seconds = 0
    failure_threshold: Seconds = 0
    termination_grace_period_seconds: Seconds | None = None

    @property
    def timeout_s(self) -> int:
        """Return how long one answer may take."""
        return self.timeout_seconds or 1

    @property
    def period_s(self) -> int:
        """Return the time from one question to the next."""
        return self.period_seconds or 10

    @property
    def successes(self) -> int:
        """Return how many successes in a row turn the verdict."""
        return self.success_threshold or 1

    @property
    def failures(self) -> int:
        """Return how many failures in a row turn the verdict."""
        return self.failure_threshold or 3


class LifecycleHandler(Part, frozen=True):
    """What a hook does; `tcp_socket` is kept by Kubernetes for old objects and fails when it is run."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Part, frozen=True):
    """What is run right after a container's start and right before its stop."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


class Container(Part, frozen=True):
    """A container of a pod; `restart_policy` exists for init containers only and makes a sidecar.

    Shapes:  target_container_name: of an ephemeral container: whose processes it sees.
    """

    name: Name
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    resources: Resources = Resources()
    ports: tuple[Port, ...] = ()
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    security_context: SecurityContext = SecurityContext()
    stdin: bool = False
    tty: bool = False
    restart_policy: Literal["", "Always"] = ""
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] = "File"
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    target_container_name: str = ""

    @property
    def pull_policy(self) -> str:
        """Return the policy, by Kubernetes' rule where none is given: a moving tag is always pulled."""
        if self.image_pull_policy:
            return self.image_pull_policy
        last = self.image.rsplit("/", 1)[-1]
        moving = "@" not in last and (":" not in last or last.endswith(":latest"))
        return "Always" if moving else "IfNotPresent"

    @property
    def is_sidecar(self) -> bool:
        """Return whether this init container runs as long as the pod."""
        return self.restart_policy == "Always"


class KeyToPath(Part, frozen=True):
    """A key and the file it becomes."""

    key: str
    path: str
    mode: int | None = None


class EmptyDir(Part, frozen=True):
    """Scratch space that lives as long as the pod."""

    medium: str = ""
    size_limit: Quantity | None = None


class HostPath(Part, frozen=True):
    """A path of the node."""

    path: str
    type: Literal[
        "",
        "DirectoryOrCreate",
        "Directory",
        "FileOrCreate",
        "File",
        "Socket",
        "CharDevice",
        "BlockDevice",
    ] = ""


class ConfigMapVolume(Part, frozen=True):
    """Keys of a ConfigMap as files."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolume(Part, frozen=True):
    """Keys of a Secret as files."""

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(Part, frozen=True):
    """A field of the pod as a file."""

    path: str
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    mode: int | None = None


class DownwardVolume(Part, frozen=True):
    """Fields of the pod as files."""

    items: tuple[DownwardFile, ...] = ()
    default_mode: int = 0o644


class ProjectedConfigMap(Part, frozen=True):
    """A ConfigMap or Secret within a projected volume."""

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class ProjectedDownward(Part, frozen=True):
    """Fields of the pod within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


class ProjectedSource(Part, frozen=True):
    """One source of a projected volume."""

    config_map: ProjectedConfigMap | None = None
    secret: ProjectedConfigMap | None = None
    downward_api: ProjectedDownward | None = field(default=None, name="downwardAPI")


class Projected(Part, frozen=True):
    """Several sources in one folder."""

    sources: tuple[ProjectedSource, ...] = ()
    default_mode: int = 0o644


class Volume(Part, frozen=True):
    """A volume; none of the sources set means a type that this node does not serve."""

    name: Name
    empty_dir: EmptyDir | None = None
    host_path: HostPath | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    downward_api: DownwardVolume | None = field(default=None, name="downwardAPI")
    projected: Projected | None = None


class PodSecurityContext(Part, frozen=True):
    """What all containers of a pod share."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[int, ...] = ()
    seccomp_profile: SeccompProfile | None = None


class HostAlias(Part, frozen=True):
    """One more line of /etc/hosts."""

    ip: str
    hostnames: tuple[str, ...] = ()


class DnsOption(Part, frozen=True):
    """One option of resolv.conf."""

    name: str
    value: str = ""


class DnsConfig(Part, frozen=True):
    """Contents of resolv.conf."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()


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
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
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
    """Return the pod and, for `unserved.py`, the whole document with its nulls removed.

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
        for amounts in (container.resources.requests, container.resources.limits):
            for amount in amounts.values():
                parse_quantity(amount)
    for part in (pod.metadata.uid, *(v.name for v in pod.spec.volumes)):
        if part in (".", ".."):  # they become folders
            raise ValueError(f"{part!r} is not a name")
