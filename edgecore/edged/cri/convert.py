"""Our values as CRI messages and back; pure. Labels and defaults are the ones that kubelet uses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgecore.edged.cri.pb import api_pb2 as pb
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerLimits,
    ContainerPhase,
    ContainerSecurity,
    ContainerState,
    ImageState,
    PodIdentity,
    RegistryAuth,
    RuntimeFeatures,
    SandboxConfig,
    SELinuxLabel,
)

POD_NAME_LABEL = "io.kubernetes.pod.name"
POD_NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
POD_UID_LABEL = "io.kubernetes.pod.uid"
CONTAINER_NAME_LABEL = "io.kubernetes.container.name"
RESTART_COUNT_ANNOTATION = "io.kubernetes.container.restartCount"
# Ours: the image as the pod's spec had it, which a runtime may resolve to another name.
SPEC_IMAGE_ANNOTATION = "armadillo.dev/image"
# Ours: which agent made it. Several agents may share one runtime and must not touch each other's pods.
OWNER_LABEL = "armadillo.dev/node"

# What Kubernetes hides from a container with the default `procMount`; a runtime hides nothing by itself.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_PHASES = {
    pb.CONTAINER_CREATED: ContainerPhase.CREATED,
    pb.CONTAINER_RUNNING: ContainerPhase.RUNNING,
    pb.CONTAINER_EXITED: ContainerPhase.EXITED,
}

_PROPAGATIONS = {
    "None": pb.PROPAGATION_PRIVATE,
    "HostToContainer": pb.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": pb.PROPAGATION_BIDIRECTIONAL,
}


def pod_labels(pod: PodIdentity, owner: str) -> dict[str, str]:
    """Return the labels by which a sandbox or container is found again."""
    return {
        POD_NAME_LABEL: pod.name,
        POD_NAMESPACE_LABEL: pod.namespace,
        POD_UID_LABEL: pod.uid,
        OWNER_LABEL: owner,
    }


def sandbox_config(config: SandboxConfig, owner: str) -> pb.PodSandboxConfig:
    """Return the sandbox as CRI wants it."""
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=config.pod.name,
            uid=config.pod.uid,
            namespace=config.pod.namespace,
            attempt=config.attempt,
        ),
        hostname="" if config.host_network else config.hostname,
        log_directory=config.log_dir,
        dns_config=pb.DNSConfig(
            servers=config.dns_servers, searches=config.dns_searches, options=config.dns_options
        ),
        port_mappings=[_port_mapping(*mapping) for mapping in config.port_mappings],
        labels={**config.labels, **pod_labels(config.pod, owner)},
        annotations=config.annotations,
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=config.cgroup_parent,
            security_context=_sandbox_security(config),
            sysctls=config.sysctls,
            overhead=_resources(config.overhead),
            resources=_resources(config.limits),
        ),
    )


def container_config(
    config: ContainerConfig, sandbox: SandboxConfig, owner: str
) -> pb.ContainerConfig:
    """Return the container as CRI wants it."""
    labels: Mapping[str, str] = {
        **config.labels,
        **pod_labels(sandbox.pod, owner),
        CONTAINER_NAME_LABEL: config.name,
    }
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=config.name, attempt=config.attempt),
        image=pb.ImageSpec(image=config.image, user_specified_image=config.image),
        command=config.command,
        args=config.args,
        working_dir=config.working_dir,
        envs=[pb.KeyValue(key=key, value=value) for key, value in config.env],
        mounts=[
            pb.Mount(
                container_path=m.container_path,
                host_path=m.host_path,
                readonly=m.read_only,
                propagation=_PROPAGATIONS[m.propagation],
                recursive_read_only=m.recursive_read_only,
                selinux_relabel=m.se_linux_relabel,
            )
            for m in config.mounts
        ],
        labels=labels,
        annotations={
            **config.annotations,
            RESTART_COUNT_ANNOTATION: str(config.attempt),
            SPEC_IMAGE_ANNOTATION: config.image,
        },
        log_path=config.log_path,
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        linux=pb.LinuxContainerConfig(
            resources=_resources(config.limits),
            security_context=_container_security(config, sandbox),
        ),
    )


def container_state(
    listed: pb.Container, status: pb.ContainerStatus | None = None
) -> ContainerState:
    """Return a container as the list (and, where it was asked for, its status) tells it."""
    if status is None:  # only for CREATED: nothing has happened to it that the list does not say
        return ContainerState(
            id=listed.id,
            name=listed.metadata.name,
            attempt=listed.metadata.attempt,
            phase=phase(listed.state),
            image=listed.image.image,
            image_id=listed.image_ref,
            created_s=listed.created_at / 1e9,
            spec_image=listed.annotations.get(SPEC_IMAGE_ANNOTATION, ""),
        )
    return ContainerState(
        id=status.id,
        name=status.metadata.name,
        attempt=status.metadata.attempt,
        phase=phase(status.state),
        image=status.image.image or listed.image.image,
        image_id=status.image_ref or listed.image_ref,
        created_s=status.created_at / 1e9,
        started_s=max(status.started_at, 0) / 1e9,
        # The end is the shim's time, the start containerd's own a moment later: a short life may seem negative.
        finished_s=max(status.finished_at, status.started_at) / 1e9
        if status.finished_at > 0
        else 0.0,
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        spec_image=listed.annotations.get(SPEC_IMAGE_ANNOTATION, ""),
        recursive_read_only=frozenset(
            m.container_path for m in status.mounts if m.recursive_read_only
        ),
    )


def phase(state: pb.ContainerState) -> ContainerPhase:
    """Return the phase; a state that a newer CRI may add is UNKNOWN."""
    return _PHASES.get(state, ContainerPhase.UNKNOWN)


def auth_config(auth: RegistryAuth) -> pb.AuthConfig:
    """Return credentials as CRI wants them."""
    return pb.AuthConfig(
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )


def image_state(image: pb.Image) -> ImageState:
    """Return an image that the runtime holds."""
    return ImageState(
        id=image.id,
        names=(*image.repo_tags, *image.repo_digests),
        size_bytes=image.size,
        pinned=image.pinned,
        user=image.uid.value if image.HasField("uid") else image.username or None,
    )


def features(status: pb.StatusResponse) -> RuntimeFeatures:
    """Return what a verbose status tells of the runtime; what it does not tell it cannot do."""
    return RuntimeFeatures(
        group_policy=status.features.supplemental_groups_policy,
        systemd_cgroups=_systemd_cgroups(status.info.get("config", "")),
        recursive_read_only=frozenset(
            h.name for h in status.runtime_handlers if h.features.recursive_read_only_mounts
        ),
    )


def _systemd_cgroups(config: str) -> bool:
    """Return whether containerd's configuration names systemd as its cgroup driver, for its default runtime."""
    try:
        containerd = msgspec.json.decode(config)["containerd"]
        default = containerd["runtimes"][containerd.get("defaultRuntimeName", "runc")]
        return bool((default.get("options") or {}).get("SystemdCgroup"))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return False


def _namespaces(sandbox: SandboxConfig) -> pb.NamespaceOption:
    return pb.NamespaceOption(
        network=pb.NODE if sandbox.host_network else pb.POD,
        # CRI's zero value shares processes within the pod; a Kubernetes pod does not unless it asks.
        pid=pb.NODE if sandbox.host_pid else pb.POD if sandbox.share_processes else pb.CONTAINER,
        ipc=pb.NODE if sandbox.host_ipc else pb.POD,
    )


def _port_mapping(
    protocol: str, container_port: int, host_port: int, host_ip: str
) -> pb.PortMapping:
    return pb.PortMapping(
        protocol=protocol or "TCP",
        container_port=container_port,
        host_port=host_port,
        host_ip=host_ip,
    )


def _resources(limits: ContainerLimits) -> pb.LinuxContainerResources:
    return pb.LinuxContainerResources(
        cpu_period=limits.cpu_period if limits.cpu_quota else 0,
        cpu_quota=limits.cpu_quota,
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory_bytes,
        oom_score_adj=limits.oom_score_adj,
        hugepage_limits=[
            pb.HugepageLimit(page_size=size, limit=value)
            for size, value in sorted(limits.huge_pages.items())
        ],
        unified=limits.settings,
    )


def _sandbox_security(config: SandboxConfig) -> pb.LinuxSandboxSecurityContext:
    security = config.security
    message = pb.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(config),
        supplemental_groups=security.supplemental_groups,
        supplemental_groups_policy=_group_policy(security),
        selinux_options=_se_linux(security.se_linux),
        # Containers choose for themselves; what is in the sandbox itself is only the pause process.
        seccomp=_profile("RuntimeDefault"),
        privileged=security.privileged,
    )
    if security.run_as_user is not None:
        message.run_as_user.value = security.run_as_user
        if security.run_as_group is not None:  # refused by CRI without a user
            message.run_as_group.value = security.run_as_group
    return message


def _container_security(
    config: ContainerConfig, sandbox: SandboxConfig
) -> pb.LinuxContainerSecurityContext:
    security = config.security
    message = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(
            add_capabilities=security.add_capabilities, drop_capabilities=security.drop_capabilities
        ),
        privileged=security.privileged,
        namespace_options=_namespaces(sandbox),
        readonly_rootfs=security.read_only_rootfs,
        supplemental_groups=security.supplemental_groups,
        no_new_privs=security.no_new_privileges,
        masked_paths=() if security.privileged else MASKED_PATHS,
        readonly_paths=() if security.privileged else READ_ONLY_PATHS,
        seccomp=_profile(security.seccomp),
        supplemental_groups_policy=_group_policy(security),
        selinux_options=_se_linux(security.se_linux),
    )
    if security.app_armor:
        message.apparmor.CopyFrom(_profile(security.app_armor))
        message.apparmor_profile = _old_app_armor(security.app_armor)
    if config.target_id:
        message.namespace_options.pid = pb.TARGET
        message.namespace_options.target_id = config.target_id
    if security.run_as_user is not None:
        message.run_as_user.value = security.run_as_user
    if security.run_as_group is not None:
        message.run_as_group.value = security.run_as_group
    return message


def _profile(profile: str) -> pb.SecurityProfile:
    kind, _, name = profile.partition("/")
    if kind == "Localhost":
        return pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=name)
    if kind == "Unconfined":
        return pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)
    return pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)


def _old_app_armor(profile: str) -> str:
    """Return the profile as runtimes of before Kubernetes 1.30 read it."""
    kind, _, name = profile.partition("/")
    old = {"Localhost": f"localhost/{name}", "Unconfined": "unconfined"}
    return old.get(kind, "runtime/default")


def _group_policy(security: ContainerSecurity) -> pb.SupplementalGroupsPolicy:
    return pb.STRICT if security.only_listed_groups else pb.MERGE


def _se_linux(label: SELinuxLabel | None) -> pb.SELinuxOption | None:
    if label is None:
        return None
    return pb.SELinuxOption(user=label.user, role=label.role, type=label.type, level=label.level)
