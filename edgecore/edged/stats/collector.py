"""Takes one reading of everything: asks the runtime, then reads files in a thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from edgecore.edged.runtime import (
    ContainerPhase,
    ContainerState,
    RuntimeUnavailableError,
    SandboxState,
)
from edgecore.edged.stats import machine
from edgecore.edged.stats.cgroups import CgroupReader
from edgecore.edged.stats.disk import DiskUse
from edgecore.edged.stats.samples import (
    ContainerSample,
    CpuSample,
    FsSample,
    MemorySample,
    NodeSample,
    PodSample,
    Snapshot,
    SystemSample,
    VolumeSample,
)
from edgecore.edged.usage import ContainerUsage, ImageFilesystem, MeteredRuntime

# Prefix of the folders that hold volumes, as kubelet names its plugins.
_PLUGIN = "kubernetes.io~"
_NODE = ""  # key of the node's own CPU reading


class _HostPath(msgspec.Struct):
    path: str


class _Claimed(msgspec.Struct):
    host_path: _HostPath


class Collector:
    """Reads the runtime, cgroups, /proc and the pods' folders; `take()` is for one caller at a time.

    Shapes:  volume_root: folder with a folder per pod uid. log_root: /var/log/pods.
             claims: returns (pod uid, volume name) -> name of the claim behind it.
    """

    def __init__(
        self,
        runtime: MeteredRuntime,
        node_name: str,
        *,
        volume_root: Path,
        log_root: Path,
        disk_use_keep_s: float = 60.0,
        clock: Callable[[], float] = time.time,
        claims: Callable[[], Mapping[tuple[str, str], str]] = dict,
        cgroups: CgroupReader | None = None,
    ) -> None:
        self._runtime, self._node_name, self._clock = runtime, node_name, clock
        self._volume_root, self._log_root = volume_root, log_root
        self._disk, self._cgroups = DiskUse(disk_use_keep_s), cgroups or CgroupReader()
        self._claims = claims
        self._before: dict[str, tuple[float, int]] = {}  # container id -> reading before, CPU ns

    async def ask(self) -> tuple[list[SandboxState], list[ContainerUsage], ImageFilesystem] | None:
        """Return what the runtime tells, None while it is down."""
        try:
            sandboxes = await self._runtime.list_sandboxes()
            usages = await self._runtime.usages()
            return sandboxes, usages, await self._runtime.image_filesystem()
        except RuntimeUnavailableError:
            return None

    def read(
        self, told: tuple[list[SandboxState], list[ContainerUsage], ImageFilesystem] | None
    ) -> Snapshot:
        """Return the reading of now, given what `ask` returned; blocks."""
        now_s = self._clock()
        sandboxes, usages, images = told or ([], [], ImageFilesystem())
        by_id = {usage.id: usage for usage in usages}
        nodefs = machine.filesystem(self._volume_root)
        rates: dict[str, tuple[float, int]] = {}
        pods = [
            pod
            for members in _by_pod(sandboxes)
            if (pod := self._pod(members, by_id, nodefs, rates, now_s)) is not None
        ]
        node = self._node(images, nodefs, rates, now_s)
        self._before = rates
        self._disk.forget_old()
        return Snapshot(self._node_name, node, pods, complete=told is not None)

    def _pod(
        self,
        sandboxes: list[SandboxState],
        usages: Mapping[str, ContainerUsage],
        nodefs: FsSample,
        rates: dict[str, tuple[float, int]],
        now_s: float,
    ) -> PodSample | None:
        """Return the pod of these sandboxes, newest first; None if nothing of it runs."""
        running = [c for s in sandboxes for c in s.containers if c.phase is ContainerPhase.RUNNING]
        if not running:
            return None
        pod, newest = sandboxes[0].pod, sandboxes[0]
        log_dir = self._log_root / f"{pod.namespace}_{pod.name}_{pod.uid}"
        containers = [
            self._container(c, usages[c.id], log_dir, nodefs, rates, now_s)
            for c in running
            if c.id in usages
        ]
        pid = next((usages[c.id].pid for c in running if c.id in usages and usages[c.id].pid), 0)
        folder = self._volume_root / pod.uid
        return PodSample(
            pod=pod,
            sandbox_id=newest.id,
            started_s=newest.created_s,
            containers=containers,
            volumes=self._volumes(pod.uid, folder, nodefs),
            # A pod without addresses of its own is on the host's network, whose traffic is the node's.
            interfaces=machine.interfaces(pid) if pid and newest.ips else (),
            other_files_bytes=self._disk.of(folder / "containers")[0]
            + self._disk.of(folder / "etc-hosts")[0],
        )

    def _container(
        self,
        state: ContainerState,
        usage: ContainerUsage,
        log_dir: Path,
        nodefs: FsSample,
        rates: dict[str, tuple[float, int]],
        now_s: float,
    ) -> ContainerSample:
        cgroup = self._cgroups.read(usage.pid) if usage.pid else None
        time_s = now_s if cgroup is not None else usage.time_s
        cpu = cgroup.cpu if cgroup is not None else CpuSample(usage_ns=usage.cpu_ns)
        log_bytes, log_inodes = self._disk.of(log_dir / state.name)
        rootfs = None
        if usage.layer_bytes is not None:
            rootfs = replace(
                nodefs, used_bytes=usage.layer_bytes, inodes_used=usage.layer_inodes or 0
            )
        return ContainerSample(
            id=state.id,
            name=state.name,
            image=state.image,
            started_s=state.started_s,
            time_s=time_s,
            cpu=self._rated(state.id, cpu, time_s, state.started_s, rates),
            memory=cgroup.memory if cgroup is not None else _memory_told(usage),
            logs=replace(nodefs, used_bytes=log_bytes, inodes_used=log_inodes),
            rootfs=rootfs,
            process_count=cgroup.process_count if cgroup is not None else 0,
            cgroup=cgroup.path if cgroup is not None else "",
        )

    def _volumes(self, uid: str, folder: Path, nodefs: FsSample) -> list[VolumeSample]:
        claims = self._claims()
        found: list[VolumeSample] = []
        for plugin in _folders(folder / "volumes"):
            kind = plugin.name.removeprefix(_PLUGIN)
            for place in _folders(plugin):
                if place.is_mount():
                    fs, in_memory = machine.filesystem(place), _is_tmpfs(place)
                else:
                    used, inodes = self._disk.of(place)
                    fs = replace(nodefs, used_bytes=used, inodes_used=inodes)
                    in_memory = False
                claim = claims.get((uid, place.name), "")
                found.append(VolumeSample(place.name, kind, fs, in_memory, claim))
        for note in _files(folder / "claims"):
            path = _path_in(note)
            if path is not None and path.is_dir():  # as kubelet: the whole of the disk behind it
                fs, claim = machine.filesystem(path), claims.get((uid, note.name), "")
                found.append(VolumeSample(note.name, "claim", fs, claim=claim))
        return sorted(found, key=lambda v: v.name)

    def _node(
        self,
        images: ImageFilesystem,
        nodefs: FsSample,
        rates: dict[str, tuple[float, int]],
        now_s: float,
    ) -> NodeSample:
        cpu, boot_s = machine.cpu()
        memory, (max_pid, running) = machine.memory(), machine.processes()
        image_fs = None
        if images.path:
            image_fs = replace(
                machine.filesystem(Path(images.path)),
                used_bytes=images.used_bytes,
                inodes_used=images.used_inodes,
            )
        return NodeSample(
            time_s=now_s,
            started_s=boot_s,
            cpu=self._rated(_NODE, cpu, now_s, boot_s, rates),
            cpu_count=machine.cpu_count(),
            memory=memory.sample,
            memory_total_bytes=memory.total_bytes,
            swap_total_bytes=memory.swap_total_bytes,
            interfaces=machine.interfaces(),
            default_interface=machine.default_interface(),
            fs=nodefs,
            image_fs=image_fs,
            max_pid=max_pid,
            process_count=running,
            system=self._system(boot_s, rates, now_s),
        )

    def _system(
        self, boot_s: float, rates: dict[str, tuple[float, int]], now_s: float
    ) -> list[SystemSample]:
        """Return this agent and the runtime's daemon, by the names that kubelet gives them."""
        found = []
        for name, pid in (("kubelet", os.getpid()), ("runtime", self._runtime.daemon_pid())):
            sample = machine.process(pid, name, boot_s) if pid else None
            if sample is not None:
                cpu = self._rated(f"/{name}", sample.cpu, now_s, sample.started_s, rates)
                found.append(replace(sample, cpu=cpu))
        return found

    def _rated(
        self,
        key: str,
        cpu: CpuSample,
        time_s: float,
        started_s: float,
        rates: dict[str, tuple[float, int]],
    ) -> CpuSample:
        """Return `cpu` with its rate since the reading before; of a first reading, since its start."""
        rates[key] = (time_s, cpu.usage_ns)
        before_s, before_ns = self._before.get(key, (started_s, 0))
        elapsed_s = time_s - before_s
        if elapsed_s <= 0 or cpu.usage_ns < before_ns:
            return cpu
        return replace(cpu, nano_cores=round((cpu.usage_ns - before_ns) / elapsed_s))


def _by_pod(sandboxes: Iterable[SandboxState]) -> list[list[SandboxState]]:
    pods: dict[str, list[SandboxState]] = {}
    for sandbox in sorted(sandboxes, key=lambda s: s.created_s, reverse=True):
        pods.setdefault(sandbox.pod.uid, []).append(sandbox)
    return list(pods.values())


def _memory_told(usage: ContainerUsage) -> MemorySample:
    return MemorySample(
        usage_bytes=usage.memory_usage_bytes or usage.memory_working_set_bytes,
        working_set_bytes=usage.memory_working_set_bytes,
        rss_bytes=usage.memory_rss_bytes,
    )


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:  # the pod has no volumes, or has just gone
        return []


def _files(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_file()]
    except OSError:
        return []


def _path_in(note: Path) -> Path | None:
    """Return the path of a claim's volume, out of the note that its pod's volumes keep."""
    try:
        return Path(msgspec.json.decode(note.read_bytes(), type=_Claimed).host_path.path)
    except (OSError, msgspec.DecodeError):  # being written, or of another version of this program
        return None


def _is_tmpfs(place: Path) -> bool:
    """Return whether `place`, a mount point, is memory: those have no device behind them."""
    text = Path("/proc/self/mounts").read_text()
    lines = (line.split() for line in text.splitlines())
    return any(words[1] == str(place) and words[2] == "tmpfs" for words in lines)
