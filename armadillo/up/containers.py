"""Our containerd while `armadillo up` runs, and the removal of every pod it holds for `armadillo down`."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Self

from armadillo.containerd import ContainerdError, PrivateContainerd
from armadillo.up.console import Console
from armadillo.up.network import pod_network
from armadillo.up.processes import end_processes
from armadillo.up.state import StateLayout
from corekit.backoff import Backoff

WATCH_S = 0.5
STOP_S = 2.5
# StopPodSandbox waits for the containers' own end, which containerd bounds at 10 s each.
CRI_TIMEOUT_S = 30.0


def containerd_of(layout: StateLayout) -> PrivateContainerd:
    """Return the containerd of this state folder, not started."""
    layout.containerd.mkdir(parents=True, exist_ok=True)
    network = pod_network(layout.containerd / "network.json", layout.root)
    return PrivateContainerd(layout.containerd, network)


class ContainerdKeeper:
    """Keeps our containerd running inside the context; pods outlive it, in the care of their shims."""

    def __init__(self, containerd: PrivateContainerd, console: Console) -> None:
        self.containerd, self._console = containerd, console
        self._process: subprocess.Popen[bytes] | None = None
        self._call: asyncio.Future[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def start(self) -> None:
        """Start it and import the images. Raises: ConfigError or ContainerdError."""
        await self._in_thread(self._blocking_start)
        self._watcher = asyncio.create_task(self._watch(), name="containerd")

    async def __aexit__(self, *exc_info: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        if (
            self._call is not None
        ):  # a thread cannot be cancelled, and must not start it after we stopped it
            await asyncio.wait([self._call])
        await asyncio.to_thread(self.containerd.stop, STOP_S)

    def _blocking_start(self) -> None:
        self._process = self.containerd.start()
        self.containerd.ensure_images()

    async def _in_thread(self, work: object) -> None:
        assert callable(work)
        self._call = asyncio.ensure_future(asyncio.to_thread(work))
        await asyncio.shield(self._call)

    async def _watch(self) -> None:
        backoff = Backoff(0.5, 30.0)
        while True:
            await asyncio.sleep(WATCH_S)
            if self._process is None or self._process.poll() is None:
                continue
            self._console.step(
                f"containerd ended with status {self._process.returncode}, starting it again; "
                f"see {self.containerd.log_file}"
            )
            await asyncio.sleep(backoff.next_delay_s())
            try:
                await self._in_thread(self._blocking_start)
            except ContainerdError as exc:
                self._console.step(str(exc))


def remove_all_pods(containerd: PrivateContainerd) -> int:
    """Stop and remove every pod through CRI, so that addresses and packet filters are given back; return how many.

    Raises:  ContainerdError: containerd did not start or did not answer.
    """
    containerd.start()
    try:
        query = 'labels."io.cri-containerd.kind"==sandbox'
        sandboxes = containerd.ctr("containers", "ls", "-q", query).split()
        for sandbox in sandboxes:
            _remove_sandbox(containerd.socket, sandbox)
    finally:
        containerd.stop()
    return len(sandboxes)


def remove_traces(containerd: PrivateContainerd) -> None:
    """End shims that are still there and remove the bridge; for what CRI could not clean."""
    address = os.fsencode(containerd.socket)
    end_processes(
        [
            pid
            for pid, command in _commands()
            if b"containerd-shim" in command[0] and address in command
        ]
    )
    subprocess.run(
        ["ip", "link", "delete", containerd.network.bridge],  # noqa: S607 - where ip lies is the system's
        capture_output=True,
        check=False,
    )


def unmount_below(folder: Path) -> None:
    """Unmount everything below `folder`, the innermost first; a folder with mounts cannot be removed."""
    points = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = Path(line.split()[1].encode().decode("unicode_escape"))
        if point != folder and point.is_relative_to(folder):
            points.append(str(point))
    for inner in sorted(points, key=len, reverse=True):
        subprocess.run(["umount", "--lazy", inner], capture_output=True, check=False)  # noqa: S607


def _remove_sandbox(socket: Path, sandbox: str) -> None:
    import grpc  # late: only `armadillo down` pays for it

    # A request with one field, number 1, a string: the whole of what both calls take.
    identifier = sandbox.encode()
    request = bytes([0x0A, len(identifier)]) + identifier
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        for call in ("StopPodSandbox", "RemovePodSandbox"):
            method = channel.unary_unary(f"/runtime.v1.RuntimeService/{call}", bytes, bytes)
            try:
                method(request, timeout=CRI_TIMEOUT_S)
            except grpc.RpcError as exc:
                raise ContainerdError(f"{call} of {sandbox[:12]}: {exc}") from exc


def _commands() -> list[tuple[int, list[bytes]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found.append((int(entry.name), command))
    return found
