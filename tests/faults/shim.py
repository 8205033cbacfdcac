"""The preloaded library that makes disks fail and clocks jump, and the file through which it gets its orders."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

from tests.faults.catalogue.base import CannotError

SOURCE = Path(__file__).with_name("shim.c")
WRITE, SYNC, OPEN, TRUNCATE, READ = 1, 2, 4, 8, 16
_ORDERS = struct.Struct("<q5i")
_CLOCK = struct.Struct("<q")
_DISK = struct.Struct("<5i")


class Shim:
    """Orders for the processes started with `environment`."""

    def __init__(self, folder: Path) -> None:
        path = folder / "orders"
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.environment = {"LD_PRELOAD": str(_library()), "FAULT_SHIM": str(path)}

    def fail(self, calls: int, *, skip: int = 0, count: int = -1, error: int = errno.EIO) -> None:
        """Make `count` of those calls on the database's files fail, after `skip` that do not."""
        _DISK.pack_into(self._map, _CLOCK.size, 0, skip, count, error, 0)
        _DISK.pack_into(self._map, _CLOCK.size, calls, skip, count, error, 0)

    def mend(self) -> int:
        """Let every call work again; return how many failed."""
        failed = int(_DISK.unpack_from(self._map, _CLOCK.size)[4])
        _DISK.pack_into(self._map, _CLOCK.size, 0, 0, 0, 0, 0)
        return failed

    def move_clock(self, offset_s: float) -> None:
        """Make the wall clock that far off."""
        _CLOCK.pack_into(self._map, 0, int(offset_s * 1e9))


@cache
def _library() -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotError("no C compiler for the library that makes calls fail")
    target = SOURCE.with_name("shim-preload.so")
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        built = target.with_suffix(".new")
        flags = ("-O1", "-Wall", "-shared", "-fPIC")
        subprocess.run([compiler, *flags, "-o", str(built), str(SOURCE), "-ldl"], check=True)
        built.replace(target)
    return target
