"""A container's and a sandbox's security settings, from those of pod and container; pure."""

from __future__ import annotations

from pathlib import Path

from edgecore.edged.runtime import ContainerSecurity, ContainerStartError, SELinuxLabel
from edgecore.edged.spec.podspec import (
    AppArmorProfile,
    Container,
    Pod,
    SeccompProfile,
    SELinuxOptions,
)
from edgecore.edged.spec.refusals import app_armor_profile, container_refusal

# Whom an image runs its containers as: a number, a name, or nobody in particular, which is root.
ImageUser = int | str | None


def needs_image_user(pod: Pod, container: Container) -> bool:
    """Return whether only the image can tell if `container` runs as root, which it must not."""
    user, non_root = _user(pod, container), _non_root(pod, container)
    return bool(non_root) and user is None


def container_security(
    pod: Pod, container: Container, image_user: ImageUser, seccomp_dir: str
) -> ContainerSecurity:
    """Return the settings of `container`.

    Shapes:  image_user: only looked at if `needs_image_user`. seccomp_dir: where Localhost profiles lie.
    Raises:  ContainerStartError: CreateContainerConfigError: it would run as root and must not, or asks for
             something that no container of this node gets.
    """
    if problem := container_refusal(container):
        raise ContainerStartError("CreateContainerConfigError", problem)
    _check_non_root(pod, container, image_user)
    shared, own = pod.spec.security_context, container.security_context
    seccomp = own.seccomp_profile or shared.seccomp_profile
    return ContainerSecurity(
        privileged=own.privileged,
        run_as_user=_user(pod, container),
        run_as_group=shared.run_as_group if own.run_as_group is None else own.run_as_group,
        supplemental_groups=pod_groups(pod),
        only_listed_groups=shared.supplemental_groups_policy == "Strict",
        read_only_rootfs=own.read_only_root_filesystem,
        no_new_privileges=own.allow_privilege_escalation is False,
        add_capabilities=own.capabilities.add,
        drop_capabilities=own.capabilities.drop,
        seccomp=_seccomp(seccomp, seccomp_dir),
        app_armor=_app_armor(app_armor_profile(pod, container)),
        se_linux=_label(own.se_linux_options or shared.se_linux_options),
    )


def sandbox_security(pod: Pod) -> ContainerSecurity:
    """Return the settings of the pod's sandbox."""
    shared = pod.spec.security_context
    return ContainerSecurity(
        privileged=any(c.security_context.privileged for c in pod.spec.every_container),
        run_as_user=shared.run_as_user,
        run_as_group=shared.run_as_group,
        supplemental_groups=pod_groups(pod),
        only_listed_groups=shared.supplemental_groups_policy == "Strict",
        se_linux=_label(shared.se_linux_options),
    )


def pod_groups(pod: Pod) -> tuple[int, ...]:
    """Return the groups that every process of the pod is in, besides its own."""
    shared = pod.spec.security_context
    own = () if shared.fs_group is None else (shared.fs_group,)
    return tuple(dict.fromkeys((*own, *shared.supplemental_groups)))


def _user(pod: Pod, container: Container) -> int | None:
    own = container.security_context.run_as_user
    return pod.spec.security_context.run_as_user if own is None else own


def _non_root(pod: Pod, container: Container) -> bool | None:
    own = container.security_context.run_as_non_root
    return pod.spec.security_context.run_as_non_root if own is None else own


def _check_non_root(pod: Pod, container: Container, image_user: ImageUser) -> None:
    if not _non_root(pod, container):
        return
    where = f'(pod: "{pod.full_name}", container: {container.name})'
    user = _user(pod, container)
    if user is not None:
        problem = "" if user else f"container's runAsUser breaks non-root policy {where}"
    elif isinstance(image_user, str):
        problem = (
            f"container has runAsNonRoot and image has non-numeric user ({image_user}), "
            f"cannot verify user is non-root {where}"
        )
    else:
        problem = (
            "" if image_user else f"container has runAsNonRoot and image will run as root {where}"
        )
    if problem:
        raise ContainerStartError("CreateContainerConfigError", problem)


def _seccomp(profile: SeccompProfile | None, folder: str) -> str:
    if profile is None:
        return "Unconfined"  # as upstream, unless seccompDefault is switched on
    if profile.type != "Localhost":
        return profile.type
    path = Path(profile.localhost_profile)
    if not profile.localhost_profile or path.is_absolute() or ".." in path.parts:
        raise ContainerStartError(
            "CreateContainerConfigError",
            f"seccomp profile {profile.localhost_profile!r} is not a path below the node's folder of profiles",
        )
    return f"Localhost/{Path(folder) / path}"


def _app_armor(profile: AppArmorProfile | None) -> str:
    if profile is None:
        return ""
    return f"Localhost/{profile.localhost_profile}" if profile.localhost_profile else profile.type


def _label(options: SELinuxOptions | None) -> SELinuxLabel | None:
    if options is None:
        return None
    return SELinuxLabel(options.user, options.role, options.type, options.level)
