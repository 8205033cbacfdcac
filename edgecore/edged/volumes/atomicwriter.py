"""A folder of files that changes as a whole, by the same layout and steps as kubelet's AtomicWriter.

folder/..2026_11_23_08_00_00.123456789/key    the files of one state
folder/..data -> ..2026_11_23_08_00_00.123456789
folder/key    -> ..data/key                   what programs open; one rename of ..data switches all
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

DATA = "..data"
_DATA_NEXT = "..data_tmp"
MAX_PATH_CHARS = 4096


class File(NamedTuple):
    """Content and permission bits of one file, and its user if that is not the agent's own."""

    content: bytes
    mode: int
    uid: int | None = None


def check_payload_path(path: str) -> None:
    """Refuse a path that could leave its folder or collide with the writer's own names.

    Raises:  ValueError.
    """
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or len(path) > MAX_PATH_CHARS or "\0" in path:
        raise ValueError(
            f"invalid path {path[:100]!r}: must be relative, not empty and not too long"
        )
    if ".." in parts or any(len(p) > 255 for p in parts):
        raise ValueError(f"invalid path {path[:100]!r}: must not contain '..' or an overlong name")
    if parts and parts[0].startswith(".."):
        raise ValueError(f"invalid path {path[:100]!r}: must not start with '..'")


def write_payload(folder: Path, payload: Mapping[str, File], gid: int | None = None) -> bool:
    """Make `folder` show exactly `payload`, of the group `gid`; return whether anything changed.

    Shapes:  payload: relative path -> file, checked with `check_payload_path` here.
    Raises:  ValueError: a bad path. OSError.
    """
    for path in payload:
        check_payload_path(path)
    link = folder / DATA
    old = folder / os.readlink(link) if link.is_symlink() else None  # noqa: PTH115
    if old is not None and old.is_dir() and _read_state(old) == _as_read(payload):
        return False
    state = _new_state(folder)
    try:
        _fill_state(state, payload, gid)
    except BaseException:  # every retry would leave another one
        shutil.rmtree(state, ignore_errors=True)
        raise
    next_link = folder / _DATA_NEXT
    next_link.unlink(missing_ok=True)
    next_link.symlink_to(state.name)
    next_link.replace(link)
    _link_names(folder, {PurePosixPath(p).parts[0] for p in payload})
    _remove_old(folder, keep=state.name)
    return True


def _read_state(folder: Path) -> dict[str, File]:
    found: dict[str, File] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            was = path.stat()
            mode = stat.S_IMODE(was.st_mode)
            found[str(path.relative_to(folder))] = File(path.read_bytes(), mode, was.st_uid)
    return found


def _as_read(payload: Mapping[str, File]) -> dict[str, File]:
    own = os.geteuid()
    return {p: f._replace(uid=own if f.uid is None else f.uid) for p, f in payload.items()}


def _new_state(folder: Path) -> Path:
    now_ns = time.time_ns()
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S", time.gmtime(now_ns // 10**9))
    state = folder / f"..{stamp}.{now_ns % 10**9:09d}"
    state.mkdir(mode=0o755)
    state.chmod(0o755)  # whatever the umask is
    return state


def _fill_state(state: Path, payload: Mapping[str, File], gid: int | None) -> None:
    for path, file in payload.items():
        target = state / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(file.mode)
        if file.uid is not None or gid is not None:  # before it is shown
            keep = -1
            os.chown(target, keep if file.uid is None else file.uid, keep if gid is None else gid)
    if gid is not None:
        for folder, _, _ in os.walk(state):
            os.chown(folder, -1, gid)
            Path(folder).chmod(0o2755)  # setgid, as kubelet's


def _link_names(folder: Path, names: set[str]) -> None:
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{DATA}/{name}")
    for entry in os.scandir(folder):
        if not entry.name.startswith("..") and entry.name not in names and entry.is_symlink():
            Path(entry.path).unlink()


def _remove_old(folder: Path, keep: str) -> None:
    for entry in os.scandir(folder):
        if entry.name.startswith("..") and entry.name not in (DATA, _DATA_NEXT, keep):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(entry.path)
