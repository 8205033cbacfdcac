"""Rotation of one container's log, as kubelet does it; blocks.

`0.log` is written by the runtime; `0.log.20260102-150405` was just put aside; older ones end in `.gz`.
"""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Collection
from pathlib import Path

PACKED, PART = ".gz", ".tmp"


def needs_rotation(log: Path, max_bytes: int) -> bool:
    """Return whether `log` has grown to `max_bytes`."""
    try:
        return log.stat().st_size >= max_bytes
    except FileNotFoundError:
        return False


def put_aside(log: Path, max_files: int, now_s: float) -> Path:
    """Rename `log`, once there is room for it among `max_files`; return its new name.

    The runtime still writes into the renamed file until it is told to open the log again.
    """
    prune(log, max_files)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s))
    aside = log.with_name(f"{log.name}.{stamp}")
    number = 0
    while aside.exists() or aside.with_name(aside.name + PACKED).exists():
        number += 1  # more than one in a second
        aside = log.with_name(f"{log.name}.{stamp}.{number}")
    log.rename(aside)
    return aside


def prune(log: Path, max_files: int) -> None:
    """Delete what an interrupted pass left behind and the oldest beyond the count, and pack the rest."""
    for left in log.parent.glob(f"{log.name}.*{PART}"):
        left.unlink(missing_ok=True)
    aside = rotated(log)
    # Two places are taken: by the log itself, and by the one that is about to be put aside.
    keep = max(max_files - 2, 0)
    for old in aside[: max(len(aside) - keep, 0)]:
        old.unlink(missing_ok=True)
    for file in aside[max(len(aside) - keep, 0) :]:
        if not file.name.endswith(PACKED):
            _pack(file)


def remove_old_attempts(folder: Path, kept: Collection[int]) -> int:
    """Delete the logs of attempts of a container that are gone from the runtime; return how many files went.

    Shapes:  folder: of one container of a pod. kept: the attempts that are there; a newer one is just beginning.
    """
    removed = 0
    for file in folder.glob("*.log*"):
        attempt = file.name.partition(".")[0]
        if attempt.isdigit() and int(attempt) < max(kept, default=0) and int(attempt) not in kept:
            file.unlink(missing_ok=True)
            removed += 1
    return removed


def rotated(log: Path) -> list[Path]:
    """Return the files that were put aside of `log`, the oldest first."""
    found = [f for f in log.parent.glob(f"{log.name}.*") if not f.name.endswith(PART)]
    return sorted(found, key=lambda f: f.name.removesuffix(PACKED))


def _pack(file: Path) -> None:
    part = file.with_name(file.name + PACKED + PART)
    with file.open("rb") as source, gzip.open(part, "wb") as target:
        shutil.copyfileobj(source, target)
    shutil.copystat(file, part)
    part.rename(file.with_name(file.name + PACKED))  # whole before the plain one goes
    file.unlink()
