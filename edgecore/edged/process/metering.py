"""What process containers use, summed over their process groups from /proc; blocks for one pass over it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edgecore.edged.usage import ContainerUsage

PROC = Path("/proc")
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat behind the command's name: state is the first.
_GROUP, _UTIME, _STIME, _CUTIME, _CSTIME, _RSS = 2, 11, 12, 13, 14, 21


def group_usages(groups: dict[int, str]) -> list[ContainerUsage]:
    """Return the use of each process group; a reaped child's time counts with its parent.

    Shapes:  groups: process group -> container id.
    """
    cpu: dict[int, int] = {}
    rss: dict[int, int] = {}
    for entry in os.scandir(PROC):
        fields = _stat(entry.name) if entry.name.isdigit() else None
        if fields is None or (group := int(fields[_GROUP])) not in groups:
            continue
        ticks = sum(int(fields[n]) for n in (_UTIME, _STIME, _CUTIME, _CSTIME))
        cpu[group] = cpu.get(group, 0) + ticks * _TICK_NS
        rss[group] = rss.get(group, 0) + int(fields[_RSS]) * _PAGE
    now_s = time.time()
    return [
        ContainerUsage(
            id=container_id,
            time_s=now_s,
            cpu_ns=cpu[group],
            memory_working_set_bytes=rss[group],
            memory_usage_bytes=rss[group],
            memory_rss_bytes=rss[group],
        )
        for group, container_id in groups.items()
        if group in cpu
    ]


def _stat(pid: str) -> list[str] | None:
    try:
        text = (PROC / pid / "stat").read_text()
    except OSError:  # it has ended
        return None
    return text.rpartition(")")[2].split()
