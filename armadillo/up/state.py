"""Where everything of one `armadillo up` lies, and who may use it: layout, writability, lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from corekit.errors import ConfigError

# Three databases with their write-ahead logs, certificates and a day of logs fit in this.
MIN_FREE_BYTES = 64 << 20
# A sun_path holds 108 bytes, and the longest socket below the state folder adds about 40.
MAX_PATH_BYTES = 200


@dataclass(frozen=True)
class NodeLayout:
    """Paths of one edge node."""

    name: str
    root: Path

    @property
    def settings(self) -> Path:
        """Settings of its edgecore."""
        return self.root / "edgecore.yaml"

    @property
    def database(self) -> Path:
        """What it boots from."""
        return self.root / "edge.db"

    @property
    def pods(self) -> Path:
        """Volumes and process sandboxes."""
        return self.root / "pods"

    @property
    def manifests(self) -> Path:
        """Its static pods."""
        return self.root / "manifests"

    @property
    def logs(self) -> Path:
        """Container logs."""
        return self.root / "logs"

    @property
    def dmi_socket(self) -> Path:
        """Where mappers of leaf devices register."""
        return self.root / "dmi.sock"


@dataclass(frozen=True)
class StateLayout:
    """Paths below the state folder; `root` is absolute."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Authority and certificates."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """`NAME.log` of each process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """`NAME.pid` of each process."""
        return self.root / "run"

    @property
    def ports(self) -> Path:
        """Ports chosen at first start."""
        return self.root / "ports.json"

    @property
    def kubecore(self) -> Path:
        """Settings and database of the embedded API."""
        return self.root / "kubecore"

    @property
    def cloudcore(self) -> Path:
        """Settings and kubeconfig of cloudcore."""
        return self.root / "cloudcore"

    @property
    def containerd(self) -> Path:
        """Images, snapshots and settings of our own containerd."""
        return self.root / "containerd"

    def node(self, name: str) -> NodeLayout:
        """Return the paths of one edge node."""
        return NodeLayout(name, self.root / "nodes" / name)

    def nodes(self) -> list[NodeLayout]:
        """Return the nodes that have been here, by name."""
        folder = self.root / "nodes"
        return [self.node(entry.name) for entry in sorted(folder.glob("*")) if entry.is_dir()]


def node_names(count: int) -> list[str]:
    """Return `edge-1` to `edge-N`."""
    return [f"edge-{number}" for number in range(1, count + 1)]


def open_state(folder: Path) -> StateLayout:
    """Make `folder` and return its layout.

    Raises:  ConfigError: it cannot be written, or is (nearly) full; found now, not in the middle of a commit.
    """
    root = folder.expanduser().absolute()
    if len(os.fsencode(root)) > MAX_PATH_BYTES:
        raise ConfigError("--state", "", f"path is longer than {MAX_PATH_BYTES} bytes: {root}")
    try:
        # 0711: containers that run as another user must reach the volumes below; keys are 0600 themselves.
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        _require_space(root)
        _probe(root)
    except OSError as exc:
        raise ConfigError(f"--state {root}", "", f"cannot be used: {exc.strerror}") from exc
    return StateLayout(root.resolve())


def _require_space(root: Path) -> None:
    usage = os.statvfs(root)
    free_bytes = usage.f_bavail * usage.f_frsize
    # Some virtual filesystems report no size at all; the probe below still writes.
    if usage.f_blocks and free_bytes < MIN_FREE_BYTES:
        problem = f"is full: {free_bytes >> 20} MiB free, needs {MIN_FREE_BYTES >> 20} MiB"
        raise ConfigError(f"--state {root}", "", problem)


def _probe(root: Path) -> None:
    probe = root / ".probe"
    with probe.open("wb") as out:
        out.write(b"\0" * 65536)
        out.flush()
        os.fsync(out.fileno())
    probe.unlink()


@contextmanager
def exclusive(layout: StateLayout) -> Iterator[None]:
    """Hold the state folder; the kernel lets go of it however this process ends.

    Raises:  ConfigError: another process holds it.
    """
    path = layout.root / "lock"
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.seek(0)
            holder = lock.read(20).strip() or "unknown"
            raise ConfigError(
                f"--state {layout.root}", "", f"is in use by process {holder} (armadillo)"
            ) from exc
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
