"""Pods of the process runtime, seen from outside: their processes are those that work in its sandboxes."""

from __future__ import annotations

from pathlib import Path

from armadillo.up.processes import end_processes
from armadillo.up.state import StateLayout


def end_process_pods(layout: StateLayout) -> int:
    """End every process that runs in a sandbox below `layout`; return how many."""
    pids = [pid for node in layout.nodes() for pid in _working_below(node.pods)]
    end_processes(pids)
    return len(pids)


def _working_below(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = (entry / "cwd").readlink()
            except OSError:
                continue
            if place.is_relative_to(folder):
                found.append(int(entry.name))
    return found
