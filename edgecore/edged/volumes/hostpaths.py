"""Paths of the node that pods may see: what `type` promises, and what the node allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from edgecore.edged.spec.podspec import HostPath
from edgecore.edged.volumes.errors import VolumeError

EVERYTHING = "/"
_TYPES: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def check_host_path(host_path: HostPath, allowed: Sequence[str]) -> None:
    """Make what `type` says may be made; refuse what is of another type or not allowed on this node.

    Raises:  VolumeError.
    """
    path = Path(host_path.path)
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath {host_path.path[:200]!r} must be absolute and without '..'")
    check_allowed(path, allowed)
    if host_path.type == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    if host_path.type == "FileOrCreate" and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    if host_path.type:
        fits, word = _TYPES[host_path.type]
        if not path.exists() or not fits(path.stat().st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not a {word}")


def restricted(allowed: Sequence[str]) -> bool:
    """Return whether some paths of the node are closed to pods."""
    return EVERYTHING not in allowed


def check_allowed(path: Path, allowed: Sequence[str]) -> None:
    """Refuse a path that is not at or below one of `allowed` once its links are followed. Raises: VolumeError."""
    if not restricted(allowed):
        return
    real = Path(os.path.realpath(path))
    for root in allowed:
        base = Path(os.path.realpath(root))
        if real == base or base in real.parents:
            return
    shown = f"{path}" if real == path else f"{path} (which is {real})"
    raise VolumeError(
        f"hostPath {shown} is not allowed on this node: pods.allowed_host_paths has {', '.join(allowed) or 'nothing'}"
    )
