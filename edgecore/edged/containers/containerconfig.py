"""From a pod's spec to the runtime's configurations of its sandbox and containers; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecore.edged.containers.environment import check_exec
from edgecore.edged.containers.errors import MissingObjectError
from edgecore.edged.containers.expansion import ExpansionTooLongError, expand
from edgecore.edged.containers.network import Names, Resolver, kernel_hostname
from edgecore.edged.containers.security import ImageUser, container_security, sandbox_security
from edgecore.edged.runtime import ContainerConfig, Mount, PodIdentity, SandboxConfig
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.spec.resources import container_limits, overhead_limits, pod_limits
from edgecore.edged.spec.sysctls import dotted


@dataclass(frozen=True)
class NodeFacts:
    """What of the node goes into every configuration.

    Shapes:  log_root: folder of all pods' logs. seccomp_dir: folder of Localhost profiles. huge_page_sizes: as the
             kernel writes them, such as `2MB`. cgroup_settings: file -> content for every container (version 2).
    """

    log_root: str
    seccomp_dir: str = ""
    memory_capacity_bytes: int = 0
    huge_page_sizes: Sequence[str] = ()
    cgroup_settings: Mapping[str, str] = field(default_factory=dict)
    names: Names = field(default_factory=Names)


def log_folder(pod: Pod, log_root: str) -> str:
    """Return the folder of the logs of `pod`."""
    meta = pod.metadata
    return str(Path(log_root) / f"{meta.namespace}_{meta.name}_{meta.uid}")


def sandbox_config(
    pod: Pod,
    attempt: int,
    node: NodeFacts,
    *,
    resolver: Resolver,
    handler: str = "",
    cgroup_parent: str = "",
) -> SandboxConfig:
    """Return the sandbox of `pod`.

    Raises:  ContainerStartError: CreatePodSandboxError: its host name does not fit.
    """
    meta, spec = pod.metadata, pod.spec
    return SandboxConfig(
        pod=PodIdentity(meta.namespace, meta.name, meta.uid),
        attempt=attempt,
        hostname="" if spec.host_network else kernel_hostname(pod, node.names.domain),
        log_dir=log_folder(pod, node.log_root),
        labels=meta.labels,
        annotations=meta.annotations,
        host_network=spec.host_network,
        host_pid=spec.host_pid,
        host_ipc=spec.host_ipc,
        share_processes=spec.share_process_namespace,
        dns_servers=resolver.servers,
        dns_searches=resolver.searches,
        dns_options=resolver.options,
        port_mappings=() if spec.host_network else _port_mappings(pod),
        cgroup_parent=cgroup_parent,
        handler=handler,
        sysctls={dotted(s.name): s.value for s in spec.security_context.sysctls},
        security=sandbox_security(pod),
        limits=pod_limits(pod),
        overhead=overhead_limits(pod),
    )


def container_config(
    pod: Pod,
    container: Container,
    attempt: int,
    *,
    env: Sequence[tuple[str, str]],
    mounts: Sequence[Mount],
    node: NodeFacts,
    image_user: ImageUser = None,
) -> ContainerConfig:
    """Return the configuration of one attempt of `container`.

    Raises:  ContainerStartError: CreateContainerConfigError: it must not run as root and would; the kernel would not
             take its command line; or it asks for what no container of this node gets.
    """
    known = dict(env)
    try:
        command = [expand(part, known) for part in container.command]
        args = [expand(part, known) for part in container.args]
    except ExpansionTooLongError as exc:
        raise MissingObjectError(f"an argument is {exc}") from exc
    check_exec(env, (*command, *args))
    _check_paths(container, mounts)
    return ContainerConfig(
        name=container.name,
        attempt=attempt,
        image=container.image,
        command=command,
        args=args,
        working_dir=container.working_dir,
        env=env,
        mounts=mounts,
        labels=pod.metadata.labels,
        annotations=pod.metadata.annotations,
        log_path=f"{container.name}/{attempt}.log",
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        limits=container_limits(
            pod,
            container,
            node.memory_capacity_bytes,
            huge_page_sizes=node.huge_page_sizes,
            settings=node.cgroup_settings,
        ),
        security=container_security(pod, container, image_user, node.seccomp_dir),
    )


def _port_mappings(pod: Pod) -> list[tuple[str, int, int, str]]:
    return [
        (port.protocol, port.container_port, port.host_port, port.host_ip)
        for container in (*pod.spec.init_containers, *pod.spec.containers)
        for port in container.ports
        if port.host_port
    ]


def _check_paths(container: Container, mounts: Sequence[Mount]) -> None:
    """Refuse paths that no container can mean."""
    for path in (container.working_dir, *(m.container_path for m in mounts)):
        if "\0" in path:
            raise MissingObjectError(f"path {path[:256]!r} contains a NUL byte")
    # A descriptor that the runtime left open there would lead out of the container (CVE-2024-21626).
    if container.working_dir.startswith("/proc/"):
        raise MissingObjectError(f"workingDir {container.working_dir[:256]!r} lies in /proc")
