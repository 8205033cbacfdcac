"""One reading of everything: values only, made by the collector and written out by `summary` and `exposition`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgecore.edged.runtime import PodIdentity


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory, in bytes; `available_bytes` is None where there is no limit."""

    usage_bytes: int = 0
    working_set_bytes: int = 0
    rss_bytes: int = 0
    cache_bytes: int = 0
    swap_bytes: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    limit_bytes: int | None = None
    available_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CpuSample:
    """CPU time since the start; `nano_cores` is the rate since the reading before."""

    usage_ns: int = 0
    nano_cores: int = 0
    periods: int | None = None  # of the CFS quota; None without one
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True, slots=True)
class FsSample:
    """A file system, and how much of it the subject uses."""

    capacity_bytes: int = 0
    available_bytes: int = 0
    used_bytes: int = 0
    inodes: int = 0
    inodes_free: int = 0
    inodes_used: int = 0


@dataclass(frozen=True, slots=True)
class VolumeSample:
    """One volume of a pod; `in_memory` ones are memory and not storage.

    Shapes:  kind: the folder's word, as `empty-dir`. claim: name of the PersistentVolumeClaim behind it, or "".
    """

    name: str
    kind: str
    fs: FsSample
    in_memory: bool = False
    claim: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceSample:
    """Counters of one network interface since it came up."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """One running container.

    Shapes:  cgroup: its path below the mount, "" if unknown. rootfs: None where the runtime does not measure it.
    """

    id: str
    name: str
    image: str
    started_s: float
    time_s: float
    cpu: CpuSample
    memory: MemorySample
    logs: FsSample
    rootfs: FsSample | None = None
    process_count: int = 0
    cgroup: str = ""


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod that runs; `sandbox_id` is the newest of its sandboxes."""

    pod: PodIdentity
    sandbox_id: str
    started_s: float
    containers: Sequence[ContainerSample] = ()
    volumes: Sequence[VolumeSample] = ()
    interfaces: Sequence[InterfaceSample] = ()
    other_files_bytes: int = 0  # /etc/hosts, termination messages


@dataclass(frozen=True, slots=True)
class SystemSample:
    """A part of the node beside its pods: this agent (`kubelet` to whoever reads it), the runtime."""

    name: str
    started_s: float
    cpu: CpuSample
    memory: MemorySample


@dataclass(frozen=True, slots=True)
class NodeSample:
    """The machine itself; `image_fs` is None where the runtime keeps no images."""

    time_s: float
    started_s: float
    cpu: CpuSample
    cpu_count: int
    memory: MemorySample
    memory_total_bytes: int
    swap_total_bytes: int
    interfaces: Sequence[InterfaceSample]
    default_interface: str
    fs: FsSample
    image_fs: FsSample | None
    max_pid: int
    process_count: int
    system: Sequence[SystemSample] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it at one moment; `complete` is False if the runtime did not answer."""

    node_name: str
    node: NodeSample
    pods: Sequence[PodSample] = field(default_factory=tuple)
    complete: bool = True
