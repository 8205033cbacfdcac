"""How much is left of memory, disks and process numbers; blocks for a few files of /proc and two statvfs."""

from __future__ import annotations

import os
from pathlib import Path

from edgecore.edged.stats import machine
from edgecore.edged.thresholds import (
    IMAGEFS,
    IMAGEFS_INODES,
    MEMORY,
    NODEFS,
    NODEFS_INODES,
    PID,
    Observation,
    Observations,
)


def read_signals(node_folder: Path, image_folder: Path | None) -> Observations:
    """Return every signal that can be observed.

    Shapes:  node_folder: on the disk of logs and volumes. image_folder: on that of images; None: not known.
    """
    memory, (max_pid, running) = machine.memory(), machine.processes()
    found = {
        MEMORY: Observation(memory.available_bytes, memory.total_bytes),
        PID: Observation(max_pid - running, max_pid),
    }
    found |= _disk(node_folder, NODEFS, NODEFS_INODES)
    if image_folder is not None:
        found |= _disk(image_folder, IMAGEFS, IMAGEFS_INODES)
    return found


def same_disk(first: Path, second: Path) -> bool:
    """Return whether both folders, or what is there of them, lie on one file system."""
    return machine.existing(first).stat().st_dev == machine.existing(second).stat().st_dev


def _disk(folder: Path, space: str, inodes: str) -> dict[str, Observation]:
    disk = os.statvfs(machine.existing(folder))
    found = {space: Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)}
    if disk.f_files:  # some file systems have no fixed number of them
        found[inodes] = Observation(disk.f_favail, disk.f_files)
    return found
