"""From a pod's spec to the runtime's configurations of its sandbox and containers; pure but for /etc files' text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecore.edged.containers.environment import expand
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerSecurity,
    ContainerStartError,
    Mount,
    PodIdentity,
    SandboxConfig,
)
from edgecore.edged.spec.podspec import Container, Pod, SecurityContext
from edgecore.edged.spec.resources import container_limits

MAX_HOSTNAME_CHARS = 63  # the kernel's limit is 64 with its terminator


def pod_hostname(pod: Pod) -> str:
    """Return the host name that the pod's processes see."""
    name = pod.spec.hostname or pod.metadata.name
    return name[:MAX_HOSTNAME_CHARS].rstrip("-.")


def sandbox_config(pod: Pod, attempt: int, log_root: str, resolv_conf: str) -> SandboxConfig:
    """Return the sandbox of `pod`.

    Shapes:  resolv_conf: the node's own, merged with `dnsConfig` where the pod has one.
    """
    meta, spec = pod.metadata, pod.spec
    servers, searches, options = _dns(pod, resolv_conf)
    return SandboxConfig(
        pod=PodIdentity(meta.namespace, meta.name, meta.uid),
        attempt=attempt,
        hostname="" if spec.host_network else pod_hostname(pod),
        log_dir=str(Path(log_root) / f"{meta.namespace}_{meta.name}_{meta.uid}"),
        labels=meta.labels,
        annotations=meta.annotations,
        host_network=spec.host_network,
        host_pid=spec.host_pid,
        host_ipc=spec.host_ipc,
        dns_servers=servers,
        dns_searches=searches,
        dns_options=options,
        port_mappings=() if spec.host_network else _port_mappings(pod),
    )


def container_config(
    pod: Pod,
    container: Container,
    attempt: int,
    *,
    image: str,
    env: Sequence[tuple[str, str]],
    mounts: Sequence[Mount],
    memory_capacity_bytes: int,
) -> ContainerConfig:
    """Return the configuration of one attempt of `container`. Raises: ContainerStartError: runAsNonRoot broken."""
    known = dict(env)
    return ContainerConfig(
        name=container.name,
        attempt=attempt,
        image=image,
        command=[expand(part, known) for part in container.command],
        args=[expand(part, known) for part in container.args],
        working_dir=container.working_dir,
        env=env,
        mounts=mounts,
        labels=pod.metadata.labels,
        annotations=pod.metadata.annotations,
        log_path=f"{container.name}/{attempt}.log",
        stdin=container.stdin,
        tty=container.tty,
        limits=container_limits(pod, container, memory_capacity_bytes),
        security=_security(pod, container),
    )


def hosts_file(pod: Pod, pod_ips: Sequence[str]) -> bytes:
    """Return the pod's /etc/hosts."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        *(f"{ip}\t{pod_hostname(pod)}" for ip in pod_ips),
    ]
    if pod.spec.host_aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join((alias.ip, *alias.hostnames)) for alias in pod.spec.host_aliases]
    return "\n".join((*lines, "")).encode()


def _port_mappings(pod: Pod) -> list[tuple[str, int, int, str]]:
    return [
        (port.protocol, port.container_port, port.host_port, port.host_ip)
        for container in (*pod.spec.init_containers, *pod.spec.containers)
        for port in container.ports
        if port.host_port
    ]


def _dns(pod: Pod, resolv_conf: str) -> tuple[list[str], list[str], list[str]]:
    """Return servers, searches and options; all empty leaves the node's own resolv.conf in place."""
    extra = pod.spec.dns_config
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    if pod.spec.dns_policy != "None":
        if extra is None:
            return servers, searches, options
        for words in (line.split() for line in resolv_conf.splitlines()):
            match words:
                case ["nameserver", address, *_]:
                    servers.append(address)
                case ["search", *names]:
                    searches = list(names)
                case ["options", *names]:
                    options = list(names)
    if extra is not None:
        servers += extra.nameservers
        searches += extra.searches
        options += [f"{o.name}:{o.value}" if o.value else o.name for o in extra.options]
    return list(dict.fromkeys(servers)), list(dict.fromkeys(searches)), options


def _security(pod: Pod, container: Container) -> ContainerSecurity:
    shared, own = pod.spec.security_context, container.security_context
    user = shared.run_as_user if own.run_as_user is None else own.run_as_user
    non_root = shared.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
    if non_root and user == 0:
        raise ContainerStartError(
            "CreateContainerConfigError",
            f"container's runAsUser breaks non-root policy (pod: "
            f'"{pod.full_name}", container: {container.name})',
        )
    return ContainerSecurity(
        privileged=own.privileged,
        run_as_user=user,
        run_as_group=shared.run_as_group if own.run_as_group is None else own.run_as_group,
        # fsGroup is a group of every process too, or the volumes that belong to it could not be used.
        supplemental_groups=(
            *(() if shared.fs_group is None else (shared.fs_group,)),
            *shared.supplemental_groups,
        ),
        read_only_rootfs=own.read_only_root_filesystem,
        no_new_privileges=own.allow_privilege_escalation is False,
        add_capabilities=own.capabilities.add,
        drop_capabilities=own.capabilities.drop,
        seccomp=_seccomp(own, pod),
    )


def _seccomp(own: SecurityContext, pod: Pod) -> str:
    profile = own.seccomp_profile or pod.spec.security_context.seccomp_profile
    if profile is None:
        return "Unconfined"  # as upstream, unless seccompDefault is switched on
    if profile.type == "Localhost":
        return f"Localhost/{profile.localhost_profile}"
    return profile.type
