"""Lines for the person in front of `armadillo up`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TextIO

TAIL_BYTES = 8192


class Console:
    """Progress with the seconds since the start; every line is flushed, for pipes are read live too."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out, self._begun_s = out or sys.stdout, time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun_s

    def step(self, line: str) -> None:
        """Print one line with the elapsed time."""
        self.plain(f"[{self.elapsed_s:5.1f} s] {line}")

    def plain(self, text: str) -> None:
        """Print `text` as it is."""
        # A reader that has gone (`armadillo up | head`) must not end the daemons.
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except BrokenPipeError:
            self._out = open("/dev/null", "w")  # noqa: SIM115, PTH123 - kept until the process ends


def tail(path: Path, count: int = 5) -> str:
    """Return the last `count` lines of a log, indented; a word that says so if there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"
