"""Readings of one process's cgroup, version 1 and 2; blocks for a handful of small files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecore.edged.stats.samples import CpuSample, MemorySample

CGROUP_ROOT = Path("/sys/fs/cgroup")
# cgroup v1 says "no limit" with a number near the largest int64, rounded to pages.
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class CgroupSample:
    """What one cgroup uses; `path` is below the mount of its hierarchy."""

    path: str
    cpu: CpuSample
    memory: MemorySample
    process_count: int


class CgroupReader:
    """Finds the cgroup of a process and reads it."""

    def __init__(self, root: Path = CGROUP_ROOT, proc: Path = Path("/proc")) -> None:
        self._root, self._proc = root, proc

    def read(self, pid: int) -> CgroupSample | None:
        """Return the usage of the cgroup of `pid`; None if the process has gone or has no cgroup of its own."""
        paths = self._paths(pid)
        try:
            if "memory" in paths:
                return self._read_v1(paths)
            if paths.get("", "/") != "/":
                return self._read_v2(paths[""])
        except (OSError, ValueError):  # it has gone while it was read
            return None
        return None

    def _paths(self, pid: int) -> dict[str, str]:
        """Return controller -> path; the key "" is the one hierarchy of version 2."""
        try:
            lines = (self._proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return {}
        found: dict[str, str] = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            found |= dict.fromkeys(controllers.split(","), path)
        return found

    def _read_v1(self, paths: dict[str, str]) -> CgroupSample | None:
        if paths["memory"] == "/":
            return None
        memory = self._root / "memory" / paths["memory"].lstrip("/")
        cpu = self._root / "cpuacct" / paths.get("cpuacct", paths["memory"]).lstrip("/")
        quota = self._root / "cpu" / paths.get("cpu", paths["memory"]).lstrip("/")
        pids = self._root / "pids" / paths.get("pids", paths["memory"]).lstrip("/")
        throttling = _pairs_or_none(quota / "cpu.stat")
        return CgroupSample(
            path=paths["memory"],
            cpu=CpuSample(
                usage_ns=_number(cpu / "cpuacct.usage"),
                periods=throttling.get("nr_periods"),
                throttled_periods=throttling.get("nr_throttled", 0),
                throttled_ns=throttling.get("throttled_time", 0),
            ),
            memory=_memory_v1(memory),
            process_count=_number_or_zero(pids / "pids.current"),
        )

    def _read_v2(self, path: str) -> CgroupSample:
        folder = self._root / path.lstrip("/")
        cpu = _pairs(folder / "cpu.stat")
        return CgroupSample(
            path=path,
            cpu=CpuSample(
                usage_ns=cpu.get("usage_usec", 0) * 1000,
                periods=cpu.get("nr_periods"),
                throttled_periods=cpu.get("nr_throttled", 0),
                throttled_ns=cpu.get("throttled_usec", 0) * 1000,
            ),
            memory=_memory_v2(folder),
            process_count=_number_or_zero(folder / "pids.current"),
        )


def read_memory(folder: Path) -> MemorySample | None:
    """Return the memory of the cgroup `folder`, of either version; None if there is none, or nobody counts it."""
    try:
        if (folder / "memory.current").exists():
            return _memory_v2(folder)
        return _memory_v1(folder)
    except (OSError, ValueError):
        return None


def _memory_v1(folder: Path) -> MemorySample:
    stat = _pairs(folder / "memory.stat")
    limit = stat.get("hierarchical_memory_limit", 0)
    return _memory(
        _number(folder / "memory.usage_in_bytes"),
        inactive_bytes=stat.get("total_inactive_file", 0),
        rss_bytes=stat.get("total_rss", 0),
        cache_bytes=stat.get("total_cache", 0),
        swap_bytes=stat.get("total_swap", 0),
        faults=(stat.get("total_pgfault", 0), stat.get("total_pgmajfault", 0)),
        limit_bytes=limit if 0 < limit < _NO_LIMIT else None,
    )


def _memory_v2(folder: Path) -> MemorySample:
    stat = _pairs(folder / "memory.stat")
    return _memory(
        _number(folder / "memory.current"),
        inactive_bytes=stat.get("inactive_file", 0),
        rss_bytes=stat.get("anon", 0),
        cache_bytes=stat.get("file", 0),
        swap_bytes=_number_or_zero(folder / "memory.swap.current"),
        faults=(stat.get("pgfault", 0), stat.get("pgmajfault", 0)),
        limit_bytes=_number_or_zero(folder / "memory.max") or None,
    )


def _memory(
    usage_bytes: int,
    *,
    inactive_bytes: int,
    rss_bytes: int,
    cache_bytes: int,
    swap_bytes: int,
    faults: tuple[int, int],
    limit_bytes: int | None,
) -> MemorySample:
    working_set = max(usage_bytes - inactive_bytes, 0)
    return MemorySample(
        usage_bytes=usage_bytes,
        working_set_bytes=working_set,
        rss_bytes=rss_bytes,
        cache_bytes=cache_bytes,
        swap_bytes=swap_bytes,
        page_faults=faults[0],
        major_page_faults=faults[1],
        limit_bytes=limit_bytes,
        available_bytes=None if limit_bytes is None else max(limit_bytes - working_set, 0),
    )


def _number(path: Path) -> int:
    return int(path.read_text())


def _number_or_zero(path: Path) -> int:
    """Return the number in `path`; 0 for `max`, and where the controller is off."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _pairs(path: Path) -> dict[str, int]:
    split = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in split if len(words) == 2}


def _pairs_or_none(path: Path) -> dict[str, int]:
    try:
        return _pairs(path)
    except OSError:
        return {}
