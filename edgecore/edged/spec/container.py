"""A container of a pod, with its environment and resources."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from edgecore.edged.spec.lifecycle import Lifecycle, Probe
from edgecore.edged.spec.network import Port
from edgecore.edged.spec.parts import Name, Part, Quantity
from edgecore.edged.spec.security import SecurityContext
from edgecore.edged.spec.sources import FieldRef, KeyRef, ObjectRef, ResourceFieldRef
from edgecore.edged.spec.volume import VolumeMount


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


class Resources(Part, frozen=True):
    """Requests and limits."""

    requests: dict[str, Quantity] = field(default_factory=dict)
    limits: dict[str, Quantity] = field(default_factory=dict)
    claims: tuple[Any, ...] = ()


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
    stdin_once: bool = False
    tty: bool = False
    restart_policy: Literal["", "Always"] = ""
    volume_devices: tuple[Any, ...] = ()  # refused, as are claims
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
