"""Frames of SPDY/3.1, as far as kubelets and their clients use it; pure.

Neither end has flow control of its own (upstream's library never sends a window): TCP's is all there is.
Source:  draft-mbelshe-httpbis-spdy-00, section 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from kubecore.streams.errors import SpdyError
from kubecore.streams.spdy_headers import MAX_HEADER_BYTES, HeaderReader, HeaderWriter

FIN = 1
_CONTROL = 0x8000
_VERSION = 3
_HEAD_BYTES = 8
# Only frames with headers are long; data is handed on as it comes.
_MAX_CONTROL_BYTES = MAX_HEADER_BYTES + 16
_WORD = struct.Struct(">I")


class Kind(IntEnum):
    """The control frames that are read; others are skipped."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6
    GOAWAY = 7


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream, or (`reply`) took one of ours."""

    stream: int
    headers: dict[str, str]
    reply: bool
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; `fin` with the last of them."""

    stream: int
    content: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave up a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """A question that wants the same number back, or the answer to ours."""

    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no more streams."""


Frame = Opened | Data | Reset | Ping | GoAway


class SpdyConnection:
    """Both directions of one connection: bytes in, frames out, and frames as bytes to send."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._reader, self._writer = HeaderReader(), HeaderWriter()
        # A data frame whose rest has not come yet: its stream, bytes left, and whether it is the last.
        self._open: tuple[int, int, bool] | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield what `data` completes, a long data frame piece by piece.

        Raises:  SpdyError: the connection cannot go on.
        """
        self._buffer += data
        while True:
            frame = self._rest() if self._open else self._next()
            if frame is not None:
                if not isinstance(frame, tuple):
                    yield frame
            else:
                return

    def open_stream(self, stream: int, headers: dict[str, str]) -> bytes:
        """Return the frame that opens `stream`."""
        block = self._writer.block(headers)
        return _control(Kind.SYN_STREAM, _WORD.pack(stream) + bytes(6) + block)

    def reply(self, stream: int, headers: dict[str, str]) -> bytes:
        """Return the frame that takes the peer's `stream`."""
        return _control(Kind.SYN_REPLY, _WORD.pack(stream) + self._writer.block(headers))

    def _next(self) -> Frame | tuple[()] | None:
        """Take the next frame off the buffer; () for one that is skipped, None until more has come."""
        if len(self._buffer) < _HEAD_BYTES:
            return None
        first, second = struct.unpack_from(">II", self._buffer)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first >> 16 & _CONTROL:
            del self._buffer[:_HEAD_BYTES]
            self._open = (first, length, bool(flags & FIN))
            return ()
        if first >> 16 & ~_CONTROL != _VERSION:
            raise SpdyError(f"version {first >> 16 & ~_CONTROL} is not SPDY/3")
        if length > _MAX_CONTROL_BYTES:
            raise SpdyError(f"a control frame of {length} bytes, limit {_MAX_CONTROL_BYTES}")
        if len(self._buffer) < _HEAD_BYTES + length:
            return None
        content = bytes(self._buffer[_HEAD_BYTES : _HEAD_BYTES + length])
        del self._buffer[: _HEAD_BYTES + length]
        return self._frame(first & 0xFFFF, flags, content)

    def _rest(self) -> Frame | tuple[()] | None:
        assert self._open
        stream, left, fin = self._open
        if left and not self._buffer:
            return None
        content = bytes(self._buffer[:left])
        del self._buffer[:left]
        left -= len(content)
        self._open = (stream, left, fin) if left else None
        return Data(stream, content, fin and not left)

    def _frame(self, kind: int, flags: int, content: bytes) -> Frame | tuple[()]:
        match kind:
            case Kind.SYN_STREAM:
                headers = self._reader.headers(content[10:])
                return Opened(_word(content), headers, reply=False, fin=bool(flags & FIN))
            case Kind.SYN_REPLY:
                headers = self._reader.headers(content[4:])
                return Opened(_word(content), headers, reply=True, fin=bool(flags & FIN))
            case Kind.RST_STREAM:
                return Reset(_word(content))
            case Kind.PING:
                return Ping(_word(content))
            case Kind.GOAWAY:
                return GoAway()
        return ()


def data_frame(stream: int, content: bytes, *, fin: bool = False) -> bytes:
    """Return the frame that carries `content`, or ends the stream. Shapes:  content: below 16 MiB."""
    return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(content)) + content


def ping(number: int) -> bytes:
    """Return the frame that asks, or answers, `number`."""
    return _control(Kind.PING, _WORD.pack(number))


def reset(stream: int) -> bytes:
    """Return the frame that gives up `stream` (status 5, cancel)."""
    return _control(Kind.RST_STREAM, _WORD.pack(stream) + _WORD.pack(5))


def _control(kind: Kind, content: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL | _VERSION, kind, len(content)) + content


def _word(content: bytes) -> int:
    if len(content) < _WORD.size:
        raise SpdyError("a control frame is too short")
    value: int = _WORD.unpack_from(content)[0]
    return value & 0x7FFFFFFF
