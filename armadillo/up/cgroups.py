"""Removal of the cgroups that pods leave when no edgecore runs that would remove them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from armadillo.up.state import StateLayout

MOUNT = Path("/sys/fs/cgroup")
_CLASSES = ("", "burstable", "besteffort")  # of kubepods; guaranteed pods lie beside the classes


def pods_of(layout: StateLayout) -> set[str]:
    """Return the uids of the pods that have files on any node of this state folder."""
    return {folder.name for folder in layout.root.glob("nodes/*/pods/volumes/*")}


def remove_pod_cgroups(uids: Iterable[str], mount: Path = MOUNT) -> None:
    """Remove the cgroups of these pods, in every hierarchy of either version; what is in use stays."""
    if not mount.is_dir():
        return
    hierarchies = [mount, *(entry for entry in mount.iterdir() if entry.is_dir())]
    for uid in uids:
        for hierarchy in hierarchies:
            for level in _CLASSES:
                _remove(hierarchy / "kubepods" / level / f"pod{uid}")


def _remove(folder: Path) -> None:
    with suppress(OSError):  # it is not there, or something runs in it
        for child in folder.iterdir():
            if child.is_dir():
                _remove(child)
        folder.rmdir()
