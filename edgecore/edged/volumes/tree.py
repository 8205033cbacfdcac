"""Removing a tree that containers filled, however deep: two descriptors, no recursion, no link followed."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_LIFTED = ".removing-"


def remove_tree(root: Path) -> None:
    """Delete `root` with everything in it. Nothing may be mounted below: a mount point makes it fail.

    Folders in folders are first moved up to `root`, so that depth costs nothing and no path gets too long.
    Raises:  OSError.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    numbers = itertools.count()
    try:
        while folders := _empty(top, top, numbers):
            for name in folders:
                fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    _empty(fd, top, numbers)
                finally:
                    os.close(fd)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    root.rmdir()


def _empty(folder: int, top: int, numbers: itertools.count[int]) -> list[str]:
    """Unlink the files in `folder` and lift its folders to `top`; return the folders of `top` itself."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    folders = []
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
        elif folder == top:
            folders.append(name)
        else:
            _lift(name, folder, top, numbers)
    return folders


def _lift(name: str, folder: int, top: int, numbers: itertools.count[int]) -> None:
    while True:
        lifted = f"{_LIFTED}{next(numbers)}"
        try:
            os.stat(lifted, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            # Fails with EBUSY or EXDEV at a mount point: nothing behind one is ever touched.
            os.rename(name, lifted, src_dir_fd=folder, dst_dir_fd=top)
            return
