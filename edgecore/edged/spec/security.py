"""Security contexts of pods and containers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgecore.edged.spec.parts import Part

# What a kernel can hold, and Kubernetes allows.
UserId = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]


class Capabilities(Part, frozen=True):
    """Linux capabilities."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SeccompProfile(Part, frozen=True):
    """Which seccomp profile."""

    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str = ""


class AppArmorProfile(Part, frozen=True):
    """Which AppArmor profile."""

    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]
    localhost_profile: str = ""


class SELinuxOptions(Part, frozen=True):
    """An SELinux label; what is empty is the runtime's choice."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class Sysctl(Part, frozen=True):
    """One kernel parameter of the pod's namespaces."""

    name: str
    value: str


class SecurityContext(Part, frozen=True):
    """A container's security context."""

    privileged: bool = False
    run_as_user: UserId | None = None
    run_as_group: UserId | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities = Capabilities()
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None
    proc_mount: Literal["", "Default", "Unmasked"] = ""


class PodSecurityContext(Part, frozen=True):
    """What all containers of a pod share."""

    run_as_user: UserId | None = None
    run_as_group: UserId | None = None
    run_as_non_root: bool | None = None
    fs_group: UserId | None = None
    supplemental_groups: tuple[UserId, ...] = ()
    supplemental_groups_policy: Literal["", "Merge", "Strict"] = ""
    fs_group_change_policy: Literal["", "Always", "OnRootMismatch"] = ""
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None
    sysctls: tuple[Sysctl, ...] = ()
