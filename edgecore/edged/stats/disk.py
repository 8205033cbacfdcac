"""How much disk a folder takes, as `du` counts it, remembered for a while; blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# A folder with more entries is measured no further: one pod's million files must not hold the node's figures up.
MAX_ENTRIES = 200_000


class DiskUse:
    """Sizes of folders, each measured again after `keep_s` seconds."""

    def __init__(self, keep_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s, self._clock = keep_s, clock
        self._known: dict[Path, tuple[float, tuple[int, int]]] = {}

    def of(self, folder: Path) -> tuple[int, int]:
        """Return bytes and inodes below `folder`, which may be a file; (0, 0) if it is not there."""
        now_s = self._clock()
        known = self._known.get(folder)
        if known is not None and now_s - known[0] < self._keep_s:
            return known[1]
        measured = measure(folder)
        self._known[folder] = (now_s, measured)
        return measured

    def forget_old(self) -> None:
        """Drop what nobody asked for lately."""
        now_s = self._clock()
        old = [f for f, (at_s, _) in self._known.items() if now_s - at_s > 2 * self._keep_s]
        for folder in old:
            del self._known[folder]


def measure(folder: Path) -> tuple[int, int]:
    """Return bytes and inodes below `folder` on its own file system; links are counted, not followed."""
    try:
        top = folder.lstat()
    except OSError:
        return 0, 0
    seen = {top.st_ino}
    total, pending = top.st_blocks * 512, [str(folder)] if folder.is_dir() else []
    while pending and len(seen) < MAX_ENTRIES:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    if stat.st_dev != top.st_dev or stat.st_ino in seen:
                        continue  # another file system, or another name of a file that is counted
                    seen.add(stat.st_ino)
                    total += stat.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:  # removed meanwhile
            continue
    return total, len(seen)
