"""Whether a process that was written down earlier is still that process; a recycled number is not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_DEAD_STATES = (b"Z", b"X", b"x")


def boot_id() -> str:
    """Return the kernel's name for the time since it started; process numbers mean nothing across it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_alive(facts: Mapping[str, str], prefix: str = "") -> bool:
    """Return whether the process in `facts` runs: same boot, same number, same start time."""
    try:
        pid, ticks = facts[f"{prefix}pid"], facts[f"{prefix}ticks"]
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, KeyError):
        return False
    same = facts.get("boot_id") == boot_id() and stat[19].decode() == ticks
    return same and stat[0] not in _DEAD_STATES


def signal_group(facts: Mapping[str, str], number: signal.Signals) -> None:
    """Send `number` to the process group of the process in `facts`, if it is alive."""
    if is_alive(facts):
        with contextlib.suppress(ProcessLookupError):  # it ended in between
            os.killpg(int(facts["pid"]), number)
