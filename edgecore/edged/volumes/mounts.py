"""Mounts that edged makes itself: tmpfs for secrets, binds for subPath; blocking, for use in threads."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x2, 0x4, 0x8, 0x1000
MS_REC, MS_PRIVATE, MS_SLAVE = 0x4000, 0x40000, 0x80000
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
CAP_SYS_ADMIN = 21


@cache
def can_mount() -> bool:
    """Return whether this process has CAP_SYS_ADMIN; root in a container often has not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)
    return False


def mount_tmpfs(target: Path, size_bytes: int = 0) -> None:
    """Mount a tmpfs on `target`. Raises: OSError."""
    options = "mode=0755" + (f",size={size_bytes}" if size_bytes else "")
    _mount("tmpfs", str(target), "tmpfs", MS_NOSUID | MS_NODEV, options)


def bind(source: str, target: Path, *, whole: bool = False) -> None:
    """Make `target` show `source`; with `whole` what is mounted below it too. Raises: OSError."""
    _mount(source, str(target), "", MS_BIND | (MS_REC if whole else 0), "")
    # Or unmounting below `target`, when the pod goes, would unmount the same below `source`.
    _mount("", str(target), "", MS_SLAVE | (MS_REC if whole else 0), "")


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points at and below `folder`, deepest and newest first."""
    root = os.fsencode(folder.resolve())
    found: list[Path] = []
    with Path("/proc/self/mountinfo").open("rb") as table:
        for line in table:
            # The kernel writes blanks and backslashes of a path in octal.
            point = line.split(b" ")[4].decode("unicode_escape").encode("latin-1")
            if point == root or point.startswith(root + b"/"):
                found.append(Path(os.fsdecode(point)))
    return list(reversed(found))


def unmount_below(folder: Path) -> None:
    """Unmount everything at and below `folder`. Raises: OSError: something is still mounted."""
    for point in mounts_below(folder):
        if _LIBC.umount2(os.fsencode(point), MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(point))


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    result = _LIBC.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
