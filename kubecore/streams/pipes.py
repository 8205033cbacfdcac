"""Bytes from one connection to another and back, at the pace of the slower."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

CHUNK_BYTES = 64 << 10


@dataclass(frozen=True)
class Pipe:
    """One end of a connection that has been upgraded."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def splice(left: Pipe, right: Pipe) -> None:
    """Carry bytes both ways until one end closes; TLS has no half-closed state to wait for."""
    async with asyncio.TaskGroup() as group:
        pumps = [
            group.create_task(pump(left.reader, right.writer)),
            group.create_task(pump(right.reader, left.writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for task in pumps:
            task.cancel()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end of `reader` or of `writer`."""
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        return  # the peer is gone: the end of this direction, not a fault
