"""What the flags of `armadillo up` say, checked before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from armadillo.containerd import missing_parts
from corekit.errors import ConfigError

RUNTIMES = ("auto", "cri", "process")
# Each node is a process of some 80 MiB; larger fleets are simulated, not started.
MAX_NODES = 50


@dataclass(frozen=True)
class UpOptions:
    """The flags."""

    state: Path = Path(".armadillo")
    nodes: int = 1
    runtime: str = "auto"
    kubeconfig: Path | None = None
    demo: bool = True

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if self.runtime not in RUNTIMES:
            raise ConfigError(
                "--runtime", "", f"{self.runtime!r} is not one of {', '.join(RUNTIMES)}"
            )
        if not 1 <= self.nodes <= MAX_NODES:
            raise ConfigError("--nodes", "", f"{self.nodes} is not between 1 and {MAX_NODES}")


def choose_runtime(wanted: str) -> tuple[str, str]:
    """Return `cri` or `process`, and why. Raises: ConfigError: `cri` was asked for and cannot be."""
    missing = [] if wanted == "process" else missing_parts()
    if wanted == "process":
        return "process", "asked for"
    if not missing:
        return "cri", "containerd is here"
    if wanted == "cri":
        raise ConfigError("--runtime cri", "", f"missing on this machine: {', '.join(missing)}")
    return "process", f"containers would need {', '.join(missing)}"
