"""What /proc says of processes: who started whom, with which command, and what memory each one has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Process:
    """One process as it was when it was looked at."""

    pid: int
    parent: int
    command: tuple[str, ...]
    executable: str
    rss_bytes: int
    pss_bytes: int  # shared pages counted by share: what a tree really has is the sum of these

    @property
    def module(self) -> str:
        """What it runs if it was started as `python ... -m MODULE`, else nothing."""
        following = dict(zip(self.command, self.command[1:], strict=False))
        return following.get("-m", "")


def snapshot() -> dict[int, Process]:
    """Return all processes that may be looked at, by id; one that ends meanwhile is left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found[int(entry.name)] = _read(entry)
            except (OSError, ValueError):  # gone, a zombie, or not ours to see
                continue
    return found


def descendants(processes: dict[int, Process], root: int) -> list[Process]:
    """Return the processes below `root`, without it."""
    below: list[Process] = []
    parents = {root}
    while parents:
        children = [process for process in processes.values() if process.parent in parents]
        below.extend(children)
        parents = {child.pid for child in children}
    return below


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that process `pid` has used, 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(processes: Iterable[Process]) -> float:
    """Return the resident memory of `processes` in MiB, shared pages counted in each."""
    return sum(process.rss_bytes for process in processes) / MIB


def pss_mib(processes: Iterable[Process]) -> float:
    """Return the proportional memory of `processes` in MiB."""
    return sum(process.pss_bytes for process in processes) / MIB


def _read(entry: Path) -> Process:
    # The command stands in parentheses and may hold anything, so what follows is counted from its end.
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    command = (entry / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
    sizes = _sizes_kib((entry / "smaps_rollup").read_text().splitlines())
    return Process(
        pid=int(entry.name),
        parent=int(fields[1]),
        command=tuple(command),
        executable=str((entry / "exe").readlink()),
        rss_bytes=sizes["Rss"] << 10,
        pss_bytes=sizes["Pss"] << 10,
    )


def _sizes_kib(lines: Sequence[str]) -> dict[str, int]:
    sizes = {"Rss": 0, "Pss": 0}  # a kernel thread has neither
    for line in lines:
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0])
    return sizes
