"""fsGroup: who may read and write the files of a volume; blocks. Never follows a link that a container planted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgecore.edged.spec.podspec import Pod
from edgecore.edged.volumes.errors import VolumeError

# What is added for the group: kubelet's masks.
READ_WRITE, READ_ONLY, SEARCH = 0o660, 0o440, 0o110
# One descriptor a level; whoever nests deeper than this does it against us.
MAX_DEPTH = 256


@dataclass(frozen=True, slots=True)
class FsGroup:
    """The group of a pod's volumes."""

    gid: int
    only_if_root_differs: bool


def fs_group(pod: Pod) -> FsGroup | None:
    """Return what the pod's security context asks for."""
    context = pod.spec.security_context
    if context.fs_group is None:
        return None
    return FsGroup(context.fs_group, context.fs_group_change_policy == "OnRootMismatch")


def file_user(pod: Pod) -> int | None:
    """Return the user that all containers of `pod` run as, None if the images say or they differ."""
    shared = pod.spec.security_context
    users = {
        shared.run_as_user
        if c.security_context.run_as_user is None
        else c.security_context.run_as_user
        for c in (*pod.spec.init_containers, *pod.spec.containers)
    }
    return users.pop() if len(users) == 1 else None


def file_mode(mode: int, group: FsGroup | None) -> int:
    """Return the mode of a generated file under `group`."""
    return mode | READ_ONLY if group is not None else mode


def own_tree(root: Path, group: FsGroup) -> None:
    """Give everything at and below `root` to the group, readable and writable; new entries inherit it.

    Raises:  VolumeError, OSError.
    """
    if group.only_if_root_differs and _root_fits(root, group.gid):
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder, name in _walk(fd, 0):
            _own_one(folder, name, group.gid)
        _own_one(fd, ".", group.gid)  # last: with OnRootMismatch it says that all below is done
    finally:
        os.close(fd)


def own_root(root: Path, group: FsGroup) -> None:
    """Give an empty folder of ours to the group."""
    os.chown(root, -1, group.gid)
    root.chmod(stat.S_IMODE(root.stat().st_mode) | READ_WRITE | SEARCH | stat.S_ISGID)


def _root_fits(root: Path, gid: int) -> bool:
    found = root.stat()
    wanted = READ_WRITE | SEARCH | stat.S_ISGID
    return found.st_gid == gid and found.st_mode & wanted == wanted


def _walk(folder: int, depth: int) -> Iterator[tuple[int, str]]:
    if depth > MAX_DEPTH:
        raise VolumeError(f"fsGroup: folders nested deeper than {MAX_DEPTH}")
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            try:
                inner = os.open(name, flags, dir_fd=folder)
            except OSError:  # replaced or removed meanwhile
                continue
            try:
                yield from _walk(inner, depth + 1)
            finally:
                os.close(inner)
        yield folder, name


def _own_one(folder: int, name: str, gid: int) -> None:
    with suppress(FileNotFoundError):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
        try:
            found = os.fstat(fd)
            os.chown(name, -1, gid, dir_fd=folder, follow_symlinks=False)
            extra = READ_WRITE
            if stat.S_ISDIR(found.st_mode):
                extra |= SEARCH | stat.S_ISGID
            elif not stat.S_ISREG(found.st_mode):
                return
            # By descriptor: the name may be a link by now.
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(found.st_mode) | extra)  # noqa: PTH101
        finally:
            os.close(fd)
