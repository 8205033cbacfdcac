"""One end of a flow-controlled byte stream, as coroutines: read, write, end, close.

Whoever carries the stream calls `feed`, `has_room` and `broke`; whoever uses it calls the rest. What was fed and not
read is bounded by the carrier's window, because only `read` gives credit back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from corekit.errors import TransportError

# A write is handed over in pieces, so that cutting one up for a slow link copies little.
MAX_SEND_BYTES = 64 << 10


class StreamBrokenError(TransportError):
    """The other end, or the link, gave the stream up."""


class StreamPort(Protocol):
    """The carrier, as a stream sees it."""

    def room(self) -> int:
        """Return how many bytes `send` takes now."""

    def send(self, content: bytes, *, end: bool = False) -> None:
        """Send bytes; `end`: nothing follows."""

    def consumed(self, size_bytes: int) -> None:
        """Note that bytes were read: as many more may come."""

    def close(self, error: str) -> None:
        """Forget the stream and tell the other end."""


class ByteStream:
    """Both directions of one stream; each ends by itself."""

    def __init__(self, port: StreamPort) -> None:
        self._port = port
        self._chunks: deque[bytes] = deque()
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._ended_in = self._ended_out = self._closed = False
        self._error: str | None = None

    async def read(self) -> bytes:
        """Return what came next, b"" at its end. Raises: StreamBrokenError."""
        while not self._chunks:
            if self._ended_in:
                return b""
            self._check()
            self._came.clear()
            await self._came.wait()
        chunk = self._chunks.popleft()
        self._port.consumed(len(chunk))
        return chunk

    async def write(self, content: bytes) -> None:
        """Return when all was handed to the link; waits while the other end does not read. Raises: StreamBrokenError."""
        at = 0
        while at < len(content):
            self._check()
            room = min(self._port.room(), MAX_SEND_BYTES)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            self._port.send(content[at : at + room])
            at += room

    def end(self) -> None:
        """Say that nothing follows; reading goes on."""
        if not self._ended_out and not self._closed and self._error is None:
            self._ended_out = True
            self._port.send(b"", end=True)

    def close(self, error: str = "") -> None:
        """Give up what is not over yet; `error` is for people at the other end."""
        if not self._closed:
            self._closed = True
            self._error = self._error or error or "closed here"
            self._chunks.clear()
            self._port.close(error)
            self._wake()

    def feed(self, content: bytes, *, end: bool) -> None:
        """Take bytes of the other end."""
        if content and not self._closed:
            self._chunks.append(content)
        self._ended_in = self._ended_in or end
        self._came.set()

    def has_room(self) -> None:
        """Let a writer that waits look again."""
        self._room.set()

    def broke(self, error: str) -> None:
        """Note that the stream is gone; what came before can still be read."""
        if self._error is None:
            self._error = error
            self._wake()

    def _check(self) -> None:
        if self._error is not None:
            raise StreamBrokenError(self._error)

    def _wake(self) -> None:
        self._came.set()
        self._room.set()
