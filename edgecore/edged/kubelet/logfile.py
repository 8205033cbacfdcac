"""One container's log file, followed across rotation. Blocking; its caller is in a thread of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# Read at once: some thousand lines, and a quarter of what may wait in a stream.
BLOCK_BYTES = 64 << 10
# A line that has no end by then is given out as it is: runtimes cut lines at 16 KiB.
MAX_LINE_BYTES = 1 << 20


class LogFile:
    """Reads whole lines from the file at `path`, which a runtime may rename and begin again.

    Raises:  OSError: it is not there, or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._fd = _open(path)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def seek_tail(self, line_count: int) -> None:
        """Go to the last `line_count` lines of the file; they are lines of the file, as kubelet counts."""
        end = os.fstat(self._fd).st_size
        if line_count == 0:
            os.lseek(self._fd, end, os.SEEK_SET)
            return
        at, left = end, line_count + 1  # the newline before the first of them
        if end and os.pread(self._fd, 1, end - 1) != b"\n":
            left -= 1
        while at > 0:
            start = max(0, at - BLOCK_BYTES)
            block = os.pread(self._fd, at - start, start)
            newlines = block.count(b"\n")
            if newlines >= left:
                os.lseek(self._fd, start + _nth_last(block, left) + 1, os.SEEK_SET)
                return
            left -= newlines
            at = start
        os.lseek(self._fd, 0, os.SEEK_SET)

    def read_lines(self) -> bytes:
        """Return the next whole lines, b"" at the end of what is written."""
        block = os.read(self._fd, BLOCK_BYTES)
        if not block:
            return b""
        whole, newline, self._rest = (self._rest + block).rpartition(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            whole, newline, self._rest = whole + newline + self._rest, b"\n", b""
        return whole + newline if newline else self.read_lines()

    def rotated(self) -> bool:
        """Go on with the file that took the place of this one; return whether there is one. Call it at the end."""
        try:
            fresh = _open(self._path)
        except FileNotFoundError:  # renamed, and the runtime has not opened the next one yet
            return False
        here, there = os.fstat(self._fd), os.fstat(fresh)
        at = os.lseek(self._fd, 0, os.SEEK_CUR)
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            os.close(fresh)
            if here.st_size < at:  # cut short in place
                os.lseek(self._fd, 0, os.SEEK_SET)
                self._rest = b""
                return True
            return False
        if here.st_size > at:  # written after we were at its end, and before it was renamed
            os.close(fresh)
            return False
        os.close(self._fd)
        self._fd, self._rest = fresh, b""
        return True


def _open(path: Path) -> int:
    # A pod that can write here (a hostPath) must not make us read the host's files for it.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path.name} is no regular file")
    return fd


def _nth_last(block: bytes, count: int) -> int:
    at = len(block)
    for _ in range(count):
        at = block.rindex(b"\n", 0, at)
    return at
