"""What a volume can be refused for."""

from __future__ import annotations

from edgecore.edged.runtime import ContainerStartError


class VolumeError(ContainerStartError):
    """A volume cannot be made (now); the message is kubelet's."""

    def __init__(self, message: str) -> None:
        super().__init__("FailedMount", message)


class UnmountedError(VolumeError):
    """Volumes that cannot even be tried: a type that is not served, a claim that is not bound; the whole sentence."""

    def __init__(self, volume: str, problem: str) -> None:
        super().__init__(
            f"Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], "
            f"failed to process volumes=[{volume}]: {problem}"
        )
