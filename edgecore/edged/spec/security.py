"""Security contexts of pods and containers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgecore.edged.spec.parts import Part


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


class PodSecurityContext(Part, frozen=True):
    """What all containers of a pod share."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: tuple[int, ...] = ()
    fs_group: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    fs_group_change_policy: Literal["", "Always", "OnRootMismatch"] = ""
    seccomp_profile: SeccompProfile | None = None
