"""Readings of the machine from /proc, and of file systems; blocks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgecore.edged.stats.samples import (
    CpuSample,
    FsSample,
    InterfaceSample,
    MemorySample,
    SystemSample,
)

PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Ends of pods' own links and bridges of container networks: the pods' traffic is counted in the pods.
_NOT_THE_NODES = ("lo", "veth", "docker", "cbr", "cni", "dummy")


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """The machine's memory; `available_bytes` is the kernel's own estimate of what can be had without swapping."""

    total_bytes: int
    available_bytes: int
    swap_total_bytes: int
    sample: MemorySample


def existing(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that is there."""
    return folder if folder.exists() else existing(folder.parent)


def filesystem(folder: Path) -> FsSample:
    """Return the file system that holds `folder`, all of its use counted."""
    disk = os.statvfs(existing(folder))
    return FsSample(
        capacity_bytes=disk.f_blocks * disk.f_frsize,
        available_bytes=disk.f_bavail * disk.f_frsize,
        used_bytes=(disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        inodes=disk.f_files,
        inodes_free=disk.f_favail,
        inodes_used=disk.f_files - disk.f_ffree,
    )


def memory(proc: Path = PROC) -> MachineMemory:
    """Return the machine's memory."""
    fields: dict[str, int] = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    total, available = fields["MemTotal"], fields.get("MemAvailable", fields["MemFree"])
    faults = _vmstat(proc)
    sample = MemorySample(
        usage_bytes=total - fields["MemFree"],
        # kubelet takes the root cgroup's use without inactive file pages, and so evicts pods for the sake of
        # active ones, which the kernel would drop first; its own estimate is the better answer.
        working_set_bytes=max(total - available, 0),
        rss_bytes=fields.get("AnonPages", 0),
        cache_bytes=fields.get("Cached", 0),
        swap_bytes=fields.get("SwapTotal", 0) - fields.get("SwapFree", 0),
        page_faults=faults.get("pgfault", 0),
        major_page_faults=faults.get("pgmajfault", 0),
        available_bytes=available,
    )
    return MachineMemory(total, available, fields.get("SwapTotal", 0), sample)


def cpu(proc: Path = PROC) -> tuple[CpuSample, float]:
    """Return the CPU time of the whole machine since its boot, and when that was (Unix seconds)."""
    busy_ticks, boot_s = 0, 0.0
    for line in (proc / "stat").read_text().splitlines():
        words = line.split()
        if words[0] == "cpu":
            # user nice system idle iowait irq softirq steal; guest time is within user.
            ticks = [int(word) for word in words[1:9]]
            busy_ticks = sum(ticks) - ticks[3] - ticks[4]
        elif words[0] == "btime":
            boot_s = float(words[1])
    return CpuSample(usage_ns=busy_ticks * _TICK_NS), boot_s


def process(pid: int, name: str, boot_s: float, proc: Path = PROC) -> SystemSample | None:
    """Return the use of process `pid`, None if there is none of that number."""
    try:
        # The name of the program, in parentheses, may hold anything; the rest is numbers.
        words = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        resident_bytes = int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None
    minor, major, user, system, started = (int(words[n - 3]) for n in (10, 12, 14, 15, 22))
    memory = MemorySample(
        usage_bytes=resident_bytes,
        working_set_bytes=resident_bytes,
        rss_bytes=resident_bytes,
        page_faults=minor + major,
        major_page_faults=major,
    )
    cpu = CpuSample(usage_ns=(user + system) * _TICK_NS)
    return SystemSample(name, boot_s + started * _TICK_NS / 1e9, cpu, memory)


def cpu_count() -> int:
    """Return how many CPUs are there."""
    return os.cpu_count() or 1


def interfaces(pid: int | None = None, proc: Path = PROC) -> list[InterfaceSample]:
    """Return the network interfaces that process `pid` sees, or the machine's own; loopback left out."""
    try:
        lines = (proc / str(pid or "self") / "net" / "dev").read_text().splitlines()[2:]
    except OSError:
        return []
    found: list[InterfaceSample] = []
    for line in lines:
        name, _, rest = line.partition(":")
        n = [int(word) for word in rest.split()]
        name = name.strip()
        if name == "lo" or (pid is None and name.startswith(_NOT_THE_NODES)):
            continue
        sample = InterfaceSample(name, n[0], n[1], n[2], n[3], n[8], n[9], n[10], n[11])
        found.append(sample)
    return sorted(found, key=lambda i: i.name)


def default_interface(proc: Path = PROC) -> str:
    """Return the interface of the default route, "" without one."""
    try:
        lines = (proc / "self" / "net" / "route").read_text().splitlines()[1:]
    except OSError:
        return ""
    routes = (line.split() for line in lines)
    return next((words[0] for words in routes if words[1] == "00000000"), "")


def processes(proc: Path = PROC) -> tuple[int, int]:
    """Return how many processes and threads there can be, and how many there are."""
    limit = min(_number(proc / "sys/kernel/pid_max"), _number(proc / "sys/kernel/threads-max"))
    running = int((proc / "loadavg").read_text().split()[3].split("/")[1])
    return limit, running


def _number(path: Path) -> int:
    return int(path.read_text())


def _vmstat(proc: Path) -> dict[str, int]:
    pairs = (line.split() for line in (proc / "vmstat").read_text().splitlines())
    return {words[0]: int(words[1]) for words in pairs if words[0] in ("pgfault", "pgmajfault")}
