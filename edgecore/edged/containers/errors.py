"""What makes a container wait until somebody changes an object or its spec."""

from __future__ import annotations

from edgecore.edged.runtime import ContainerStartError


class MissingObjectError(ContainerStartError):
    """A ConfigMap, Secret or key that is not there (yet), or a value that no container can be given."""

    def __init__(self, message: str) -> None:
        super().__init__("CreateContainerConfigError", message)
