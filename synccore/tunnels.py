"""Byte streams inside a session: opened by the cloud, with credit per stream and direction.

Pure. The shell asks `room()` before it sends, says `consumed()` for what somebody has taken, and sends what
`take_control()` and, in its turn among the lanes, `next_piece()` give. So a stream that nobody reads holds at most
its window at either end, and delays nothing.
Source: docs/protocol.md, section 7.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synccore.errors import LimitError, StreamRuleError
from synccore.messages import (
    TunnelBytes,
    TunnelClosed,
    TunnelCredit,
    TunnelMessage,
    TunnelOpen,
    TunnelOpened,
)

MAX_STREAMS = 128
# 2 MB/s over 100 ms, and with all streams stuck 32 MiB an end.
WINDOW_BYTES = 256 << 10
MAX_PIECE_BYTES = 64 << 10
# A command line may hold 128 KiB; what people type is a few hundred bytes.
MAX_TARGET_BYTES = 64 << 10
# Answers and credits that wait because the peer does not read: far above what its open streams can cause.
MAX_CONTROL = 8 * MAX_STREAMS

# Why a stream is not opened.
BAD_REQUEST = "BadRequest"
NOT_FOUND = "NotFound"
TOO_MANY = "TooMany"
UNAVAILABLE = "Unavailable"
FAILED = "Failed"
CODES = frozenset({BAD_REQUEST, NOT_FOUND, TOO_MANY, UNAVAILABLE, FAILED})


@dataclass(frozen=True, slots=True)
class StreamWanted:
    """The cloud asks for a stream: `answer()` it."""

    stream_id: int
    target: str


@dataclass(frozen=True, slots=True)
class StreamAnswered:
    """The edge has opened a stream, or says why not with a word of `CODES`."""

    stream_id: int
    code: str
    error: str


@dataclass(frozen=True, slots=True)
class StreamCame:
    """Bytes for whoever reads the stream; `end`: nothing follows."""

    stream_id: int
    content: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class StreamRoom:
    """`room()` of this stream has grown."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamGone:
    """The peer has forgotten the stream; `error` is empty if nothing went wrong."""

    stream_id: int
    error: str


class _Stream:
    """Both directions of one stream."""

    __slots__ = (
        "allowed_bytes",
        "credit_bytes",
        "ended_in",
        "ended_out",
        "ending",
        "opened",
        "unreturned_bytes",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self) -> None:
        self.opened = False
        self.credit_bytes = self.allowed_bytes = WINDOW_BYTES  # of ours, of the peer's
        self.unreturned_bytes = 0  # consumed here, and the peer does not know yet
        self.waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self.ending = self.ended_out = self.ended_in = False

    @property
    def has_piece(self) -> bool:
        return bool(self.waiting) or (self.ending and not self.ended_out)


class Tunnels:
    """The streams of one session. `on_waiting` is called when a piece waits for its turn."""

    def __init__(self, *, on_waiting: Callable[[], None]) -> None:
        self._on_waiting = on_waiting
        self._streams: dict[int, _Stream] = {}
        self._ready: deque[int] = deque()  # ids with a piece to send, each once; they take turns
        self._control: list[TunnelMessage] = []
        self._last_id = 0
        self._stray_bytes = 0  # what may still come for streams that we have closed

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, target: str) -> int:
        """Ask the edge for a stream; return its id. Only while there are fewer than MAX_STREAMS."""
        assert len(self._streams) < MAX_STREAMS
        self._last_id += 1
        self._streams[self._last_id] = _Stream()
        self._control.append(TunnelOpen(self._last_id, target))
        return self._last_id

    def answer(self, stream_id: int, code: str = "", error: str = "") -> None:
        """Tell the cloud that the stream is open or, with a word of `CODES`, why not."""
        stream = self._streams.get(stream_id)
        if stream is None:  # closed meanwhile
            return
        self._control.append(TunnelOpened(stream_id, error, code))
        stream.opened = True
        if code:
            self._forget(stream_id)

    def room(self, stream_id: int) -> int:
        """Return how many bytes may be given to `send()` now."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.opened or stream.ending:
            return 0
        return stream.credit_bytes - stream.waiting_bytes

    def send(self, stream_id: int, content: bytes, *, end: bool = False) -> None:
        """Queue bytes, no more than `room()`; `end`: nothing follows in this direction."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        assert not stream.ending
        assert len(content) <= stream.credit_bytes - stream.waiting_bytes
        idle = not stream.has_piece
        if content:
            stream.waiting.append(content)
            stream.waiting_bytes += len(content)
        stream.ending = end
        if idle and stream.has_piece:
            self._ready.append(stream_id)
            self._on_waiting()

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """Note that somebody took bytes: the peer may send as many more."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ended_in:
            return
        stream.unreturned_bytes += size_bytes
        if 2 * stream.unreturned_bytes >= WINDOW_BYTES:  # not for each piece: it is a message
            self._control.append(TunnelCredit(stream_id, stream.unreturned_bytes))
            stream.allowed_bytes += stream.unreturned_bytes
            stream.unreturned_bytes = 0

    def close(self, stream_id: int, error: str = "") -> None:
        """Forget a stream, with what waits in it, and tell the peer."""
        if stream_id in self._streams:
            self._stray_bytes += self._streams[stream_id].allowed_bytes
            self._forget(stream_id)
            self._control.append(TunnelClosed(stream_id, error))

    @property
    def has_control(self) -> bool:
        """Whether `take_control()` has something."""
        return bool(self._control)

    def take_control(self) -> list[TunnelMessage]:
        """Return and forget what goes before all pieces."""
        taken, self._control = self._control, []
        return taken

    def next_piece(self, limit_bytes: int) -> TunnelBytes | None:
        """Return the next piece of the stream whose turn it is, None if no stream has one."""
        while self._ready:
            stream_id = self._ready.popleft()
            stream = self._streams.get(stream_id)
            if stream is None:
                continue
            content = _cut(stream, min(limit_bytes, MAX_PIECE_BYTES))
            stream.ended_out = stream.ending and not stream.waiting
            if stream.has_piece:
                self._ready.append(stream_id)
            self._forget_if_over(stream_id, stream)
            return TunnelBytes(stream_id, content, stream.ended_out)
        return None

    def receive(self, message: TunnelMessage) -> list[Any]:
        """Take a message of the peer; return events. Raises: ProtocolError."""
        if len(self._control) > MAX_CONTROL:
            raise LimitError("answers about streams that wait", len(self._control), MAX_CONTROL)
        match message:
            case TunnelOpen():
                return self._on_open(message)
            case TunnelOpened():
                return self._on_opened(message)
            case TunnelBytes():
                return self._on_bytes(message)
            case TunnelCredit():
                return self._on_credit(message)
            case TunnelClosed():
                return self._on_closed(message)

    def _on_open(self, message: TunnelOpen) -> list[Any]:
        if message.stream_id <= self._last_id:
            raise StreamRuleError(message.stream_id, f"opened after {self._last_id}")
        if len(message.target) > MAX_TARGET_BYTES:
            raise LimitError("stream target bytes", len(message.target), MAX_TARGET_BYTES)
        self._last_id = message.stream_id
        if len(self._streams) >= MAX_STREAMS:
            refusal = f"{MAX_STREAMS} streams of this node are open"
            self._control.append(TunnelOpened(message.stream_id, refusal, TOO_MANY))
            return []
        self._streams[message.stream_id] = _Stream()
        return [StreamWanted(message.stream_id, message.target)]

    def _on_opened(self, message: TunnelOpened) -> list[Any]:
        stream = self._known(message.stream_id)
        if stream is None:
            return []
        if stream.opened:
            raise StreamRuleError(message.stream_id, "answered twice")
        stream.opened = True
        if not message.code and not message.error:
            return [StreamAnswered(message.stream_id, "", "")]
        self._forget(message.stream_id)
        code = message.code if message.code in CODES else FAILED
        return [StreamAnswered(message.stream_id, code, message.error)]

    def _on_bytes(self, message: TunnelBytes) -> list[Any]:
        size_bytes = len(message.content)
        if size_bytes > MAX_PIECE_BYTES:
            raise LimitError("stream piece bytes", size_bytes, MAX_PIECE_BYTES)
        if not size_bytes and not message.end:
            raise StreamRuleError(message.stream_id, "a piece without bytes")
        stream = self._known(message.stream_id)
        if stream is None:
            self._stray_bytes -= size_bytes
            if self._stray_bytes < 0:
                raise StreamRuleError(message.stream_id, "bytes for a stream that is over")
            return []
        if not stream.opened or stream.ended_in:
            when = "after the end" if stream.ended_in else "before the answer"
            raise StreamRuleError(message.stream_id, f"bytes {when}")
        if size_bytes > stream.allowed_bytes:
            raise StreamRuleError(
                message.stream_id, f"{size_bytes - stream.allowed_bytes} bytes without credit"
            )
        stream.allowed_bytes -= size_bytes
        stream.ended_in = message.end
        self._forget_if_over(message.stream_id, stream)
        return [StreamCame(message.stream_id, message.content, message.end)]

    def _on_credit(self, message: TunnelCredit) -> list[Any]:
        stream = self._known(message.stream_id)
        if stream is None:
            return []
        # Only what was sent can be given back.
        if not 0 < message.size_bytes <= WINDOW_BYTES - stream.credit_bytes:
            raise StreamRuleError(message.stream_id, f"credit of {message.size_bytes} bytes")
        stream.credit_bytes += message.size_bytes
        return [StreamRoom(message.stream_id)]

    def _on_closed(self, message: TunnelClosed) -> list[Any]:
        if self._known(message.stream_id) is None:
            return []
        self._forget(message.stream_id)
        return [StreamGone(message.stream_id, message.error)]

    def _known(self, stream_id: int) -> _Stream | None:
        """Return the stream; None if it is over. Raises: StreamRuleError: there never was one."""
        if not 0 < stream_id <= self._last_id:
            raise StreamRuleError(stream_id, "was never opened")
        return self._streams.get(stream_id)

    def _forget_if_over(self, stream_id: int, stream: _Stream) -> None:
        if stream.ended_in and stream.ended_out:
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        del self._streams[stream_id]


def _cut(stream: _Stream, limit_bytes: int) -> bytes:
    """Take up to `limit_bytes` off the front of what waits."""
    if not stream.waiting:
        return b""
    content = stream.waiting.popleft()
    if len(content) > limit_bytes:
        stream.waiting.appendleft(content[limit_bytes:])
        content = content[:limit_bytes]
    stream.waiting_bytes -= len(content)
    stream.credit_bytes -= len(content)
    return content
