"""A byte pipe to the runtime's streaming server: one connection and one use per URL."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from corekit.bytestream import ByteStream, StreamBrokenError
from edgecore.streams import Accept, StreamRefusedError
from synccore.targets import Upgrade
from synccore.tunnels import FAILED, UNAVAILABLE

CONNECT_TIMEOUT_S = 10.0
READ_BYTES = 64 << 10
_LOOPBACK = re.compile(r"localhost|::1|127(\.\d{1,3}){3}")


async def pipe_to(url: str, upgrade: Upgrade, accept: Accept) -> None:
    """Connect to `url`, write the client's upgrade request, and be a pipe from then on, the answer included.

    Raises:  StreamRefusedError: nothing answers there, or the runtime names another machine.
    """
    host, port, head = _request(url, upgrade)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
    except (OSError, TimeoutError) as exc:
        problem = f"the runtime's streaming server does not answer: {exc or 'no answer in time'}"
        raise StreamRefusedError(UNAVAILABLE, problem) from exc
    try:
        stream = accept()
        writer.write(head)
        await join(stream, reader, writer)
    finally:
        writer.close()


async def join(
    stream: ByteStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Copy both ways until `reader` has ended; the end of `stream` is passed on first."""
    down = asyncio.ensure_future(_down(stream, writer))
    try:
        while chunk := await reader.read(READ_BYTES):
            await stream.write(chunk)
    finally:
        down.cancel()
        await asyncio.wait([down])


async def _down(stream: ByteStream, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await stream.read():
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except StreamBrokenError:  # nobody is there: what runs must not wait for it
        writer.transport.abort()
    except OSError:
        return  # the reader sees it too


def _request(url: str, upgrade: Upgrade) -> tuple[str, int, bytes]:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        local = _LOOPBACK.fullmatch(host) is not None
        port = parts.port or 80
    except ValueError as exc:
        raise StreamRefusedError(
            FAILED, "the runtime's streaming server is not on loopback"
        ) from exc
    if parts.scheme != "http" or not local:
        # Not to be lent to whoever gets the runtime to name another address.
        raise StreamRefusedError(FAILED, "the runtime's streaming server is not on loopback")
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"{upgrade.method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in upgrade.headers]
    if upgrade.method == "POST":
        lines.append("Content-Length: 0")
    return host, port, "\r\n".join((*lines, "", "")).encode("ascii")
