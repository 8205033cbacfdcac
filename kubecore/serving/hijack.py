"""Take a connection from aiohttp, which only lets go of it for a WebSocket of its own making."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from kubecore.streams.pipes import CHUNK_BYTES, Pipe


class Hijacked(web.StreamResponse):
    """What a handler returns after it used the connection itself: nothing is written, and it is closed."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing: the head has been written."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


class _Taken(asyncio.StreamReaderProtocol):
    """Reads the connection; its end is also told to aiohttp, which then forgets it."""

    def __init__(self, reader: asyncio.StreamReader, former: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._former = former

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._former.connection_lost(exc)


def take_over(request: web.Request, headers: Iterable[tuple[str, str]]) -> Pipe:
    """Answer 101 with `headers` and return the connection, which is the caller's until it returns `Hijacked`.

    A client must not send before it has read the answer; what it did send is lost.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    reader = asyncio.StreamReader(limit=CHUNK_BYTES)
    protocol = _Taken(reader, transport.get_protocol())
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    loop = asyncio.get_running_loop()
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode("latin-1"))
    return Pipe(reader, writer)
