"""Give this process a file system of its own: the host's, copy on write, with the container's mounts in it.

Loaded by the supervisor's child only, as root, just before exec. Everything lives in a mount namespace that
ends with the process, so nothing is left behind on the host. It keeps pods from treading on the host's files;
it is no security boundary. What a container writes outside its mounts is held in memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

# Holds what a container writes outside its volumes; large data belongs into a volume, which is on disk.
MAX_WRITTEN = "256m"

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_NO_NEW_PRIVS = 38
_COPY_ON_WRITE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "devtmpfs"})
_AS_THEY_ARE = frozenset({"proc", "sysfs", "devpts", "cgroup", "cgroup2", "mqueue", "vfat", "nfs4"})

# `use_errno` is how ctypes hands over errno; 3.12 has os.unshare, and no Python has mount.
_libc = ctypes.CDLL(None, use_errno=True)


def enter(order: dict[str, Any]) -> None:
    """Move into a private root with `order["mounts"]`; stay in the host's if it cannot be had and is not needed.

    Raises:  OSError, naming the mount that failed.
    """
    mounts = sorted(order["mounts"], key=lambda mount: mount[1].count("/"))
    try:
        _check(lambda: _libc.unshare(_CLONE_NEWNS), "unshare")
        _mount(
            None, "/", None, _MS_REC | _MS_PRIVATE
        )  # or every mount below would show on the host
        root = _build(order["folder"] + "/root")
    except OSError as exc:
        if mounts or order["read_only"]:
            raise OSError(exc.errno, f"no private root: {exc.strerror}", exc.filename) from exc
        return
    # Opened in the new namespace, or they could not be bound in it, but before the root changes:
    # afterwards these paths would mean the container's own files.
    sources = [(_open(host), target, read_only) for host, target, read_only in mounts]
    os.chroot(root)
    os.chdir("/")
    for source, target, read_only in sources:
        _bind(source, target, read_only=read_only)
    if order["read_only"]:
        _mount(None, "/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def forbid_new_privileges() -> None:
    """From now on no set-user-ID file gives this process more rights. Raises: OSError."""
    _check(lambda: _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def _build(folder: str) -> str:
    """Return the path of a copy-on-write view of all of the host's file systems."""
    points = _host_mounts()
    os.makedirs(folder, exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, f"mode=0755,size={MAX_WRITTEN}")
    root = f"{folder}/merged"
    os.mkdir(root)
    _overlay("/", root, f"{folder}/0")
    for number, (point, kind) in enumerate(points, start=1):
        target = root + point
        if not os.path.isdir(target):
            continue
        try:
            if kind not in _COPY_ON_WRITE:
                raise OSError(errno.EINVAL, "not to be layered", point)
            _overlay(point, target, f"{folder}/{number}")
        except OSError:
            _mount(point, target, None, _MS_BIND)
    return root


def _host_mounts() -> list[tuple[str, str]]:
    """Return (mount point, type) of the host's file systems below `/`, outer ones first.

    Those of other containers, snaps and the like are left out: there may be hundreds.
    """
    found: dict[str, str] = {}
    with open("/proc/self/mounts") as handle:
        for line in handle:
            _, point, kind, *_ = line.split()
            point = point.encode().decode("unicode_escape")  # a blank is written as \040
            if point != "/" and kind in _COPY_ON_WRITE | _AS_THEY_ARE:
                found[point] = kind
    return sorted(found.items(), key=lambda entry: entry[0].count("/"))


def _overlay(lower: str, target: str, layers: str) -> None:
    for part in (layers, f"{layers}/upper", f"{layers}/work"):
        os.mkdir(part)
    options = f"lowerdir={lower},upperdir={layers}/upper,workdir={layers}/work"
    _mount("overlay", target, "overlay", 0, options)


def _open(host_path: str) -> int:
    try:
        return os.open(host_path, os.O_PATH)
    except OSError as exc:
        raise OSError(exc.errno, f"mount source {host_path}: {exc.strerror}") from exc


def _bind(source: int, target: str, *, read_only: bool) -> None:
    path = f"/proc/self/fd/{source}"
    try:
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        elif not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        _mount(path, target, None, _MS_BIND | _MS_REC)
        if read_only:
            _mount(None, target, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    except OSError as exc:
        raise OSError(exc.errno, f"mount at {target}: {exc.strerror}") from exc


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    parts = [os.fsencode(part) if part is not None else None for part in (source, target, kind)]
    extra = options.encode() if options is not None else None
    _check(lambda: _libc.mount(*parts, ctypes.c_ulong(flags), extra), target)


def _check(call: Callable[[], int], what: str) -> None:
    if call() != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
