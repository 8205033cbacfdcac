"""Which process is ours: pid files that name a process beyond doubt, and ending what a killed run left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

# Each daemon promises to stop within 10 s of SIGTERM.
LEFTOVER_STOP_S = 10.0


def write_pid_file(path: Path, pid: int) -> None:
    """Remember process `pid`: its number alone would be given to another process some day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pid": pid, "started": started(pid)}))


def read_pid_file(path: Path) -> int | None:
    """Return the process that `path` remembers if that very process still runs."""
    try:
        entry = json.loads(path.read_text())
        pid, then = int(entry["pid"]), entry["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if then is not None and started(pid) == then else None


def started(pid: int) -> str | None:
    """Return what tells this process from any other that had its number; None if it is gone (or a zombie)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; the fields after it do not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else f"{boot}/{fields[19]}"


def end_leftovers(folder: Path) -> list[str]:
    """End every process that a pid file in `folder` remembers; return their names."""
    found = {path.stem: read_pid_file(path) for path in sorted(folder.glob("*.pid"))}
    alive = {name: pid for name, pid in found.items() if pid is not None}
    end_processes(list(alive.values()))
    for path in folder.glob("*.pid"):
        path.unlink(missing_ok=True)
    return list(alive)


def end_processes(pids: Sequence[int], grace_s: float = LEFTOVER_STOP_S) -> None:
    """SIGTERM to all of `pids`, SIGKILL to who is still there after `grace_s`; return when all are gone."""
    marks = {pid: mark for pid in pids if (mark := started(pid)) is not None}
    _signal(marks, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while _alive(marks) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(_alive(marks), signal.SIGKILL)
    while _alive(marks) and time.monotonic() < deadline + 5.0:
        time.sleep(0.05)


def _alive(marks: dict[int, str]) -> dict[int, str]:
    return {pid: mark for pid, mark in marks.items() if started(pid) == mark}


def _signal(marks: dict[int, str], number: int) -> None:
    for pid in marks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
