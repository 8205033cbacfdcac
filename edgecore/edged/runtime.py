"""The seam to whatever runs containers: the `ContainerRuntime` protocol and the values it speaks.

Two implementations: `edged.cri` (CRI v1 over gRPC on a unix socket) and `edged.process` (plain processes).
The words follow CRI: a sandbox holds a pod's containers. Ids are the runtime's and survive edgecore.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from corekit.errors import EdgeError


class RuntimeUnavailableError(EdgeError):
    """The runtime does not answer; try again."""

    retryable = True


class ContainerStartError(EdgeError):
    """The runtime refused a sandbox, a container or an image; `reason` is the word kubelet would use.

    Words: ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError, RegistryUnavailable, CreateContainerConfigError,
    CreateContainerError, RunContainerError, CreatePodSandboxError.
    """

    retryable = True

    def __init__(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message
        super().__init__(f"{reason}: {message}")


class StreamingRefusedError(EdgeError):
    """The runtime gives no stream to a container or pod; the message says why."""


class ContainerPhase(Enum):
    """Where a container is in its life."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    """What goes into the node's `containerRuntimeVersion`, as `name://version`."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Which pod a sandbox belongs to; a runtime stores it as labels and gives it back."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Mount:
    """One bind mount.

    Shapes:  propagation: None | HostToContainer | Bidirectional, as a volumeMount has it. recursive_read_only: what
             is mounted below it too. se_linux_relabel: give the files the container's label, on a host with SELinux.
    """

    host_path: str
    container_path: str
    read_only: bool = False
    propagation: str = "None"
    recursive_read_only: bool = False
    se_linux_relabel: bool = False


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """cgroup values; 0 leaves the runtime's default.

    Shapes:  huge_pages: page size as the kernel writes it (`2MB`) -> bytes. settings: further files of version 2.
    """

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 100_000
    memory_bytes: int = 0
    oom_score_adj: int = 0
    huge_pages: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SELinuxLabel:
    """An SELinux label; empty parts are the runtime's choice."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSecurity:
    """The part of a container's security context that the runtime enforces.

    Shapes:  profiles: `RuntimeDefault`, `Unconfined` or `Localhost/<absolute path or name>`; an empty app_armor is
             the runtime's choice. only_listed_groups: not those that the image gives its user.
    """

    privileged: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    supplemental_groups: Sequence[int] = ()
    read_only_rootfs: bool = False
    no_new_privileges: bool = False
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()
    seccomp: str = "RuntimeDefault"
    app_armor: str = ""
    se_linux: SELinuxLabel | None = None
    only_listed_groups: bool = False


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """A pod's sandbox to be.

    Shapes:  log_dir: folder of this pod's container logs. dns_*: contents of resolv.conf. handler: of the runtime
             class, empty for the runtime's default. share_processes: one process namespace for the pod.
             cgroup_parent: empty leaves the runtime's own. security: of the pause process; its groups are all
             containers'. limits: of all containers together, overhead: what the runtime class adds.
    """

    pod: PodIdentity
    attempt: int
    hostname: str
    log_dir: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    dns_servers: Sequence[str] = ()
    dns_searches: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    port_mappings: Sequence[
        tuple[str, int, int, str]
    ] = ()  # protocol, container, host port, host IP
    cgroup_parent: str = ""
    handler: str = ""
    share_processes: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    security: ContainerSecurity = field(default_factory=ContainerSecurity)
    limits: ContainerLimits = field(default_factory=ContainerLimits)
    overhead: ContainerLimits = field(default_factory=ContainerLimits)


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """A container to be.

    Shapes:  command, args: as in the pod spec, already expanded; empty leaves the image's own.
             log_path: relative to the sandbox's log_dir. working_dir: empty leaves the image's own.
    """

    name: str
    attempt: int
    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    working_dir: str = ""
    env: Sequence[tuple[str, str]] = ()
    mounts: Sequence[Mount] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    target_id: str = ""  # container whose processes this one sees, of an ephemeral container
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    limits: ContainerLimits = field(default_factory=ContainerLimits)
    security: ContainerSecurity = field(default_factory=ContainerSecurity)


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as the runtime sees it now.

    Units:   *_s: Unix seconds, 0 if not yet. Shapes: reason, message: the runtime's, may be empty;
             id: bare; the status carries it as `<runtime name>://<id>`. recursive_read_only: paths in the container
             where the runtime has mounted so.
    """

    id: str
    name: str
    attempt: int
    phase: ContainerPhase
    image: str
    image_id: str
    created_s: float
    started_s: float = 0.0
    finished_s: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    spec_image: str = ""  # as the pod's spec had it when it was created, if the runtime can tell
    recursive_read_only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SandboxState:
    """A sandbox with its containers, as the runtime sees them now.

    Shapes:  ips: the pod's addresses, empty with host network or in the process runtime (host address then).
    """

    id: str
    pod: PodIdentity
    attempt: int
    ready: bool
    created_s: float
    ips: Sequence[str] = ()
    containers: Sequence[ContainerState] = ()


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command in a container said.

    Shapes:  output: standard output, then standard error.
    """

    exit_code: int
    output: bytes


class ExecTimeoutError(EdgeError):
    """A command in a container did not end in time; the runtime has killed it."""


class ExecRefusedError(EdgeError):
    """A command could not be run in a container: no such program, or the container has ended."""


@dataclass(frozen=True, slots=True)
class ImageState:
    """An image that is present.

    Shapes:  user: whom its containers run as if the pod does not say: a number, a name, or None (root).
    """

    id: str
    names: Sequence[str]
    size_bytes: int
    pinned: bool = False  # the runtime itself needs it
    user: int | str | None = None


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """What a registry lets somebody in for: a name and password, or a token."""

    username: str = ""
    password: str = field(default="", repr=False)  # never in a log
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RuntimeFeatures:
    """What a runtime can do that not every one can.

    Shapes:  group_policy: `only_listed_groups`. systemd_cgroups: cgroup parents are names of slices.
             recursive_read_only: the handlers that can mount so; the empty name is the default one.
    """

    group_policy: bool = False
    systemd_cgroups: bool = False
    recursive_read_only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pipes:
    """Which streams of a process a client wants; with `tty` there is no stderr."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class ContainerRuntime(Protocol):
    """What edged needs of a runtime. Every call has a deadline of its own and raises
    RuntimeUnavailableError when it passes; stop and remove of what is gone succeed.
    """

    name: str

    async def version(self) -> RuntimeVersion:
        """Return name and version; raises RuntimeUnavailableError while it is down."""

    async def features(self) -> RuntimeFeatures:
        """Return what it can do; raises RuntimeUnavailableError while it is down."""

    async def list_sandboxes(self) -> list[SandboxState]:
        """Return every sandbox that this agent made, dead ones too, with all containers."""

    async def sandbox(self, pod_uid: str) -> list[SandboxState]:
        """Return the sandboxes of one pod, newest first."""

    def events(self) -> AsyncIterator[str]:
        """Yield the uid of each pod that changed; end at once in a runtime that tells none.

        What it yields is a hint: some may be lost, and uids of others' pods are among them.
        """

    async def run_sandbox(self, config: SandboxConfig) -> str:
        """Make and start a sandbox; return its id. Raises: ContainerStartError."""

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop what still runs in it and give back its network."""

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove it with its containers."""

    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str:
        """Create a container; return its id. Raises: ContainerStartError."""

    async def start_container(self, container_id: str) -> None:
        """Start it. Raises: ContainerStartError (RunContainerError)."""

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s` seconds; return when it has exited."""

    async def remove_container(self, container_id: str) -> None:
        """Remove it, killing it if it runs."""

    async def exec_url(self, container_id: str, command: Sequence[str], pipes: Pipes, /) -> str:
        """Return a URL, good for one connection, that runs `command`. Raises: StreamingRefusedError."""

    async def attach_url(self, container_id: str, pipes: Pipes, /) -> str:
        """Return a URL, good for one connection, of the container's own streams. Raises: StreamingRefusedError."""

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int], /) -> str:
        """Return a URL, good for one connection, to ports of the pod. Raises: StreamingRefusedError."""

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        """Run `command` in a container. Raises: ExecTimeoutError, ExecRefusedError, RuntimeUnavailableError."""

    async def image(self, reference: str) -> ImageState | None:
        """Return the image if it is present.

        Raises:  ContainerStartError: InvalidImageName, ImageInspectError.
        """

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> ImageState:
        """Fetch an image. Raises: ContainerStartError (ErrImagePull)."""

    async def images(self) -> list[ImageState]:
        """Return all images that are present."""

    async def close(self) -> None:
        """Let go of the connection; containers keep running."""
