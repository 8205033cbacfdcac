"""A containerd of our own: its own root, state, socket and pod network, for `armadillo up` and the tests.

Containers outlive it: a containerd that is started again on the same folder takes them over.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from armadillo.host import has_capability, remove_pod_network, snapshotter_for, unmount_below
from armadillo.images import PAUSE_IMAGE, LocalImage, local_images, write_archive
from corekit.errors import ConfigError, EdgeError

# A unix socket's address holds 108 bytes with its final zero, and containerd appends `.ttrpc`.
MAX_SOCKET_PATH_BYTES = 108 - 1 - len(".ttrpc")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
PLUGINS = ("bridge", "host-local", "portmap", "loopback")
CAP_SYS_RESOURCE = 24
NAMESPACE = "k8s.io"  # where containerd's CRI plugin keeps what is Kubernetes's


class ContainerdError(EdgeError):
    """The private containerd did not start or refused a command; the message says where its log is."""


@dataclass(frozen=True)
class PodNetwork:
    """The bridge that this node's pods are on.

    Shapes:  bridge: an interface name, at most 15 bytes. subnet: CIDR; two nodes must not share it.
    """

    bridge: str = "armadillo0"
    subnet: str = "10.88.0.0/16"

    def __post_init__(self) -> None:
        """Refuse what the kernel or the CNI plugin would refuse much later."""
        if not 0 < len(self.bridge.encode()) <= 15:
            raise ConfigError("pod network", "bridge", f"{self.bridge!r} is not 1 to 15 bytes long")
        try:
            ipaddress.ip_network(self.subnet)
        except ValueError as exc:
            raise ConfigError("pod network", "subnet", str(exc)) from exc


def missing_parts() -> list[str]:
    """Return what this machine lacks to run a private containerd, as words for people; empty is good."""
    missing = [] if os.geteuid() == 0 else ["root rights"]
    missing += [program for program in ("containerd", "ctr", "runc") if not shutil.which(program)]
    if not _cni_folder():
        missing.append("CNI plugins (containernetworking-plugins)")
    return missing


class PrivateContainerd:
    """One containerd in `folder`; `start()`, `ensure_images()`, `stop()`, in threads if need be."""

    def __init__(self, folder: Path, network: PodNetwork | None = None) -> None:
        self.folder, self.network = folder.absolute(), network or PodNetwork()
        self.socket = self.folder / "containerd.sock"
        self.config_file = self.folder / "config.toml"
        self.log_file = self.folder / "containerd.log"
        self._pid_file = self.folder / "containerd.pid"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 20.0) -> subprocess.Popen[bytes]:
        """Start it and return once its socket answers; one left over from a killed run is ended first.

        Raises:  ConfigError: the folder cannot hold a socket. ContainerdError: it did not come up.
        """
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH_BYTES:
            limit = MAX_SOCKET_PATH_BYTES
            raise ConfigError(str(self.socket), "", f"a socket's path has at most {limit} bytes")
        if missing := missing_parts():
            raise ContainerdError(f"containerd cannot run here: missing {', '.join(missing)}")
        self._end_leftover()
        self._write_config()
        # A session of its own: Ctrl-C at the terminal must reach `armadillo up` only, which stops in order.
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [shutil.which("containerd") or "containerd", "--config", str(self.config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._process.pid))
        self._wait_until_ready(self._process, timeout_s)
        return self._process

    def ensure_images(self, images: Sequence[LocalImage] | None = None) -> list[str]:
        """Make and import what is not there yet of `images` (default: pause and busybox); return those names.

        Raises:  ConfigError: no static busybox. ContainerdError: the import failed.
        """
        wanted = local_images() if images is None else images
        present = self._managed_images()
        missing = [image for image in wanted if image.name not in present]
        if missing:
            archive = self.folder / "images.tar"
            write_archive(archive, missing)
            self.ctr("images", "import", str(archive), timeout_s=120.0)
            archive.unlink()
            self._wait_until_managed({image.name for image in missing})
        return [image.name for image in missing]

    def ctr(self, *args: str, timeout_s: float = 20.0) -> str:
        """Return the output of `ctr` in the Kubernetes namespace. Raises: ContainerdError."""
        command = ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *args]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise ContainerdError(f"ctr {args[0]}: no answer in {timeout_s:.0f} s") from exc
        if done.returncode != 0:
            raise ContainerdError(f"ctr {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop containerd, by its process id; containers keep running and are found at the next start."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._pid_file.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)

    def purge(self) -> None:
        """End every container, stop containerd, and take its mounts, bridge and packet rules off this machine.

        Images stay in `folder`, which may be deleted afterwards. Raises: ContainerdError: it does not start.
        """
        if self._process is None:
            self.start()
        for container in self.ctr("containers", "ls", "-q").split():
            for command in (("tasks", "rm", "--force", container), ("containers", "rm", container)):
                with contextlib.suppress(ContainerdError):  # it may have no task, or just have gone
                    self.ctr(*command)
        self.stop()
        unmount_below(self.folder)
        remove_pod_network(self.network.bridge)

    def _write_config(self) -> None:
        cni = self.folder / "cni"
        for folder in (self.folder, cni):
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        (cni / "10-armadillo.conflist").write_text(json.dumps(self._conflist(), indent=2))
        self.config_file.write_text(self._config())

    def _conflist(self) -> dict[str, object]:
        address_pool = {
            "type": "host-local",
            "ranges": [[{"subnet": self.network.subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(self.folder / "addresses"),
        }
        bridge = {
            "type": "bridge",
            "bridge": self.network.bridge,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": address_pool,
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        # The network's name is part of iptables chain names, so two private containerds must differ in it.
        return {"cniVersion": "0.4.0", "name": self.network.bridge, "plugins": [bridge, portmap]}

    def _config(self) -> str:
        quoted = {
            "root": json.dumps(str(self.folder / "root")),
            "state": json.dumps(str(self.folder / "state")),
            "socket": json.dumps(str(self.socket)),
            "opt": json.dumps(str(self.folder / "opt")),
            "runc": json.dumps(str(self.folder / "state" / "runc")),
            "cni": json.dumps(str(self.folder / "cni")),
            "plugins": json.dumps(str(_cni_folder())),
            "pause": json.dumps(PAUSE_IMAGE),
            "snapshotter": json.dumps(snapshotter_for(self.folder)),
            # Without this capability every sandbox fails: "can't get final child's PID from pipe: EOF".
            "restrict": json.dumps(not has_capability(CAP_SYS_RESOURCE)),
        }
        return _CONFIG.format(**quoted)

    def _wait_until_ready(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        problem = "its socket never appeared"
        while time.monotonic() < deadline:
            if (status := process.poll()) is not None:
                raise ContainerdError(f"containerd ended with {status}, see {self.log_file}")
            if self.socket.exists():
                try:
                    # Lists through containerd's metadata, so it answers only when the plugins are up.
                    self.ctr("containers", "ls", "-q", timeout_s=max(1.0, timeout_s / 4))
                except ContainerdError as exc:
                    problem = str(exc)
                else:
                    return
            time.sleep(0.05)
        self.stop()
        raise ContainerdError(
            f"containerd not ready in {timeout_s:.0f} s ({problem}), see {self.log_file}"
        )

    def _managed_images(self) -> set[str]:
        # The CRI plugin labels an image when it has taken notice of it, a moment after the import.
        listing = self.ctr("images", "ls", "-q", 'labels."io.cri-containerd.image"==managed')
        return set(listing.split())

    def _wait_until_managed(self, names: set[str], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not names <= self._managed_images():
            if time.monotonic() > deadline:
                raise ContainerdError(f"images imported, but its CRI plugin ignores them: {names}")
            time.sleep(0.05)

    def _end_leftover(self) -> None:
        """End a containerd that a killed run left on this folder: two would wait for each other's database."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if os.fsencode(self.config_file) not in command:
            return  # the number was given to another process since
        deadline = time.monotonic() + 8.0
        number = signal.SIGTERM
        while Path(f"/proc/{pid}/exe").exists():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            time.sleep(0.1)


def _cni_folder() -> Path | None:
    for folder in CNI_FOLDERS:
        if all((folder / plugin).exists() for plugin in PLUGINS):
            return folder
    return None


_CONFIG = """\
# Written by armadillo at every start; changes here are lost.
version = 2
root = {root}
state = {state}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = {socket}

[plugins."io.containerd.internal.v1.opt"]
  path = {opt}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {pause}
  restrict_oom_score_adj = {restrict}
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {plugins}
    conf_dir = {cni}

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = {snapshotter}

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = {runc}
"""
