"""Pods of the process runtime, seen from outside: what it wrote down of each container it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from armadillo.up.processes import started
from armadillo.up.state import NodeLayout, StateLayout

GRACE_S = 10.0


def end_process_pods(layout: StateLayout, grace_s: float = GRACE_S) -> int:
    """End every container of the process runtime and forget it; return how many still ran."""
    groups = [group for node in layout.nodes() for group in _running(node)]
    _signal(groups, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(map(_alive, groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal([group for group in groups if _alive(group)], signal.SIGKILL)
    while any(map(_alive, groups)) and time.monotonic() < deadline + 5.0:
        time.sleep(0.05)
    for node in layout.nodes():
        for place in _places(node):
            shutil.rmtree(place / "containers", ignore_errors=True)
            shutil.rmtree(place / "sandboxes", ignore_errors=True)
    return len(groups)


def _places(node: NodeLayout) -> list[Path]:
    # The runtime has a folder of its own below the pods' one, or shares it.
    return [found.parent for depth in ("", "*/") for found in node.pods.glob(f"{depth}containers")]


def _running(node: NodeLayout) -> list[tuple[int, str]]:
    """Return (process group, what tells it from a later process of that number) of what runs."""
    found = []
    for place in _places(node):
        for path in place.glob("containers/*/started"):
            facts = dict(
                line.split(" ", 1) for line in path.read_text().splitlines() if " " in line
            )
            with contextlib.suppress(KeyError, ValueError):
                group = int(facts["pid"]), f"{facts['boot_id']}/{facts['ticks']}"
                found.append(group)
    return [group for group in found if _alive(group)]


def _alive(group: tuple[int, str]) -> bool:
    return started(group[0]) == group[1]


def _signal(groups: list[tuple[int, str]], number: int) -> None:
    for pid, _ in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
