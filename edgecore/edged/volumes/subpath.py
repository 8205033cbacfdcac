"""subPath: one entry of a volume, held so that nobody inside a container can make it point elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.hostpaths import check_allowed


def open_inside(root: Path, sub_path: str, *, create: bool) -> int:
    """Return an O_PATH descriptor of `sub_path` within `root`; missing folders are made if `create`.

    Links within the volume are followed (a ConfigMap consists of them), links out of it are refused.
    Raises:  VolumeError: it leaves the volume or is not there.
    """
    parts = PurePosixPath(sub_path).parts
    if sub_path.startswith("/") or ".." in parts or "\0" in sub_path:
        raise VolumeError(f"subPath {sub_path!r} must be relative and must not contain '..'")
    base = root.resolve()
    target = Path(os.path.realpath(base / sub_path))
    if target != base and base not in target.parents:
        raise VolumeError(f"subPath {sub_path!r} leaves its volume")
    fd = os.open(base, os.O_PATH)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode) if create else None
        for part in target.relative_to(base).parts:
            fd = _step(fd, part, mode)
    except OSError as exc:
        os.close(fd)
        raise VolumeError(f"subPath {sub_path!r}: {exc.strerror}") from exc
    return fd


def _step(folder: int, name: str, mode: int | None) -> int:
    # The path was free of links a moment ago; O_NOFOLLOW refuses one that was slipped in since.
    flags = os.O_PATH | os.O_NOFOLLOW
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if mode is None:
            raise
        os.mkdir(name, 0o750, dir_fd=folder)
        fd = os.open(name, flags, dir_fd=folder)
        # As the volume itself, so that whoever may write there may write here (fsGroup); whatever the umask is.
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(40, "a symbolic link was slipped in")
    os.close(folder)
    return fd


def pin(volume: Path, sub_path: str, place: Path, *, create: bool) -> Path:
    """Return a path that shows `sub_path` of `volume` for as long as it is mounted.

    Without the right to mount it is the entry itself, which a later rename could replace.
    """
    fd = open_inside(volume, sub_path, create=create)
    try:
        if not mounts.can_mount():
            return Path(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
        _show(fd, place, whole=False)
        return place
    finally:
        os.close(fd)


def hold(path: Path, place: Path, allowed: Sequence[str]) -> None:
    """Make `place` show what `path` is now, with all that is mounted below it, if that is allowed.

    Raises:  VolumeError: it is, or has just become, something outside of `allowed`. OSError.
    """
    fd = os.open(path, os.O_PATH)
    try:
        check_allowed(Path(os.readlink(f"/proc/self/fd/{fd}")), allowed)  # noqa: PTH115
        if not place.is_mount() or not os.path.samestat(os.fstat(fd), place.stat()):
            _show(fd, place, whole=True)
    finally:
        os.close(fd)


def _show(fd: int, place: Path, *, whole: bool) -> None:
    mounts.unmount_below(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
    if place.exists() and place.is_dir() != is_folder:  # what it shows has changed its kind
        place.rmdir() if place.is_dir() else place.unlink()
    if is_folder:
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    mounts.bind(f"/proc/self/fd/{fd}", place, whole=whole)
