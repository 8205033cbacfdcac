"""Gives back the pages of program files that only the start needed: relocation, initializers, registration of types.

A shared library's code and constants stay mapped page by page once they were touched. Most of gRPC's and OpenSSL's
were touched once, by the loader and while modules were made. They are clean copies of files: dropped here they cost
nothing, and one that is used after all comes back by a page fault, from the page cache. Linux only; elsewhere
nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

logger = logging.getLogger(__name__)

SMAPS = Path("/proc/self/smaps")
# After the first connections, the first pods and the first commit, all of which import and initialize.
START_S = 10.0
_MADV_DONTNEED = 4


class Mapping(NamedTuple):
    """One mapping of the process's memory."""

    start: int
    end: int
    permissions: str  # as in /proc/self/maps: r-xp
    file: str  # "" if it is not of a file
    rss_kib: int
    anonymous_kib: int  # pages that are no longer the file's, such as relocated ones


def mappings(lines: Iterable[str]) -> Iterator[Mapping]:
    """Yield what a text in the form of /proc/PID/smaps lists."""
    head: list[str] = []
    sizes = {"Rss:": 0, "Anonymous:": 0}
    for line in lines:
        name, *rest = line.split(maxsplit=5)
        if name.endswith(":"):
            if name in sizes:
                sizes[name] = int(rest[0])
            continue
        if head:
            yield _mapping(head, sizes)
        head, sizes = [name, *rest], dict.fromkeys(sizes, 0)
    if head:
        yield _mapping(head, sizes)


def is_reloadable(mapping: Mapping) -> bool:
    """Tell whether dropping the pages of `mapping` loses nothing: all are clean copies of a file that is still there.

    A page that was written since, a relocated one for example, is anonymous: dropped, it would be gone.
    """
    is_file = mapping.file.startswith("/") and not mapping.file.endswith("(deleted)")
    read_only = mapping.permissions[0] == "r" and mapping.permissions[1] == "-"
    private = mapping.permissions[3] == "p"
    return is_file and read_only and private and not mapping.anonymous_kib and mapping.rss_kib > 0


def give_back() -> int:
    """Drop the pages that can be loaded again; return how many bytes of memory that were."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    given_kib = 0
    with SMAPS.open(encoding="utf-8", errors="replace") as lines:
        found = [mapping for mapping in mappings(lines) if is_reloadable(mapping)]
    for mapping in found:
        if madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED) == 0:
            given_kib += mapping.rss_kib
    return given_kib << 10


class Residency:
    """Component: gives pages back once, when the start is over."""

    name = "residency"

    def __init__(self, start_s: float = START_S) -> None:
        self._start_s = start_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Give back, then wait until cancelled."""
        await asyncio.sleep(self._start_s)
        if sys.platform == "linux":
            try:
                given_bytes = await asyncio.to_thread(give_back)
                logger.debug("residency: gave back %d KiB of program files", given_bytes >> 10)
            except OSError as exc:  # no /proc: it stays as it is
                logger.debug("residency: nothing given back: %s", exc)
        await asyncio.Event().wait()


def _mapping(head: list[str], sizes: dict[str, int]) -> Mapping:
    start, _, end = head[0].partition("-")
    file = head[5].strip() if len(head) > 5 else ""
    return Mapping(int(start, 16), int(end, 16), head[1], file, sizes["Rss:"], sizes["Anonymous:"])
