"""What a runtime can tell of its use of the machine, beside running containers: the `MeteredRuntime` seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgecore.edged.runtime import ContainerRuntime


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """What one running container uses, as far as the runtime knows.

    Units:   time_s: Unix seconds of the reading. cpu_ns: nanoseconds of CPU since the start.
    Shapes:  pid: of its first process on the host, 0 if unknown. layer_*: its writable layer; None if not measured.
    """

    id: str
    pid: int = 0
    time_s: float = 0.0
    cpu_ns: int = 0
    memory_working_set_bytes: int = 0
    memory_usage_bytes: int = 0
    memory_rss_bytes: int = 0
    layer_bytes: int | None = None
    layer_inodes: int | None = None


@dataclass(frozen=True, slots=True)
class ImageFilesystem:
    """Where the runtime keeps images and writable layers.

    Shapes:  path: a folder on that file system; empty if the runtime keeps none.
    """

    path: str = ""
    used_bytes: int = 0
    used_inodes: int = 0


@dataclass(frozen=True, slots=True)
class RuntimeCondition:
    """One condition of the runtime: RuntimeReady, NetworkReady, or its own."""

    type: str
    holds: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeHandler:
    """A way to run pods that a RuntimeClass may name; the empty name is the default."""

    name: str
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeHealth:
    """What the runtime says of itself."""

    conditions: Sequence[RuntimeCondition] = ()
    handlers: Sequence[RuntimeHandler] = ()


class MeteredRuntime(ContainerRuntime, Protocol):
    """A runtime that is also measured and swept. Every call raises RuntimeUnavailableError while it is down."""

    async def usages(self) -> list[ContainerUsage]:
        """Return the use of every running container that this agent made."""

    async def image_filesystem(self) -> ImageFilesystem:
        """Return where images lie and how much they take."""

    async def used_images(self) -> set[str]:
        """Return ids and names of the images of all containers, whoever made them, and of the sandboxes."""

    async def remove_image(self, image_id: str) -> None:
        """Remove an image; one that is gone already is well removed."""

    async def reopen_log(self, container_id: str) -> None:
        """Have the runtime write on in a new log file, after the old one was renamed."""

    def daemon_pid(self) -> int:
        """Return the process id of the runtime's daemon, 0 if it has none that can be told; blocks shortly."""

    async def health(self) -> RuntimeHealth:
        """Return the runtime's own conditions and its handlers."""
