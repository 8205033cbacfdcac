"""Lines of a container's log file to what a client reads; pure.

A line is `TIMESTAMP STREAM TAG CONTENT`; the tag `P` says that its line goes on in the next one.
Source: KEP 1.5 "CRI logging"; kubelet's ReadLogs.
"""

from __future__ import annotations

import datetime as dt
import re

# 2016-10-06T00:17:09.669794202Z stdout F
_PREFIX = re.compile(rb"^[^ \n]{16,40} std(?:out|err) F ", re.MULTILINE)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)")
_STREAMS = {"All": None, "Stdout": b"stdout", "Stderr": b"stderr"}


def parse_time(text: str) -> int:
    """Return Unix nanoseconds of an RFC 3339 time. Raises: ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time of RFC 3339")
    day, time, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    seconds = int(dt.datetime.fromisoformat(f"{day}T{time}{zone}").timestamp())
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


class LineRenderer:
    """Turns whole lines of a log file into output, one log after the other.

    Shapes:  since_ns: Unix nanoseconds, 0: all. limit_bytes: of output, None: all. stream: All, Stdout, Stderr.
    """

    def __init__(
        self,
        *,
        timestamps: bool = False,
        since_ns: int = 0,
        limit_bytes: int | None = None,
        stream: str = "All",
    ) -> None:
        self._timestamps, self._since_ns = timestamps, since_ns
        self._left, self._stream = limit_bytes, _STREAMS[stream]
        self._at_start = True  # of a line of output: a partial one is open otherwise

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self._left is not None and self._left <= 0

    def render(self, lines: bytes) -> bytes:
        """Return the output for `lines`, each ended by a newline; what is no log line is left out, as kubelet does."""
        simple = not (self._timestamps or self._since_ns or self._stream) and self._at_start
        out = self._all_complete(lines) if simple else None
        if out is None:
            out = b"".join(self._line(line + b"\n") for line in lines.split(b"\n")[:-1])
        if self._left is not None:
            out = out[: self._left]
            self._left -= len(out)
        return out

    def _all_complete(self, lines: bytes) -> bytes | None:
        """Return the output if every line is a complete one; at C's speed, as most logs are."""
        out, count = _PREFIX.subn(b"", lines)
        return out if count == lines.count(b"\n") else None

    def _line(self, line: bytes) -> bytes:
        parts = line.split(b" ", 3)
        if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
            return b""
        time, stream, tag, content = parts
        if self._stream is not None and stream != self._stream:
            return b""
        if self._since_ns and not self._is_new(time):
            return b""
        prefix = time + b" " if self._timestamps and self._at_start else b""
        partial = tag.split(b":", 1)[0] == b"P"
        self._at_start = not partial
        return prefix + (content.removesuffix(b"\n") if partial else content)

    def _is_new(self, time: bytes) -> bool:
        try:
            return parse_time(time.decode("ascii", "replace")) >= self._since_ns
        except ValueError:
            return False
