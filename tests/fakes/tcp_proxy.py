"""A TCP proxy that breaks on command: the link between edge and cloud in tests.

In the test's own process:

    async with TcpProxy("127.0.0.1", cloud_port) as proxy:
        ...connect to proxy.port...
        await proxy.cut()

As a process, with one command a line on a unix socket, answered by `ok` or `error REASON`:

    python tests/fakes/tcp_proxy.py --listen 127.0.0.1:0 --target HOST:PORT --control PATH
    commands: cut | black_hole [up|down] | stall | heal | stats

It prints `listening HOST:PORT` once it serves. `up` is from the one that connected to the target.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Self

CHUNK_BYTES = 64 << 10
UP, DOWN = "up", "down"
BOTH = frozenset((UP, DOWN))


class Link(Enum):
    """What the proxy does with what passes."""

    HEALTHY = "healthy"
    CUT = "cut"  # connections were reset, new ones are refused: a cable pulled near by
    BLACK_HOLE = "black hole"  # everything stays open and nothing arrives: a route that is gone
    STALLED = "stalled"  # as a black hole, but what was sent arrives after `heal()`: retransmission


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    target: asyncio.StreamWriter | None = None
    holes: set[str] = field(default_factory=set)  # directions that lost bytes or their end
    forwarding: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """End both sides with a reset, as a cut does; not with a polite end of stream."""
        if self.forwarding is not None:
            self.forwarding.cancel()
        for writer in (self.client, self.target):
            if writer is not None:
                with suppress(OSError):  # closed already
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()


class TcpProxy:
    """Forwards to one target from a port that stays the same, through every cut."""

    def __init__(self, host: str, port: int, *, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.target, self._listen = (host, port), listen
        self.link = Link.HEALTHY
        self.passed_bytes = {UP: 0, DOWN: 0}
        self.dropped_bytes = {UP: 0, DOWN: 0}
        self.accepted_count = 0
        self._dropping: frozenset[str] = frozenset()
        self.slow()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port to connect to."""
        return int(self._reserved.getsockname()[1])

    @property
    def address(self) -> str:
        """The same as host:port."""
        return f"{self._listen[0]}:{self.port}"

    async def __aenter__(self) -> Self:
        self._flowing = asyncio.Event()
        self._flowing.set()
        # Bound and never listening: it keeps the port ours while a cut has closed the listener.
        self._reserved = _bound(self._listen)
        await self._start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.cut()
        self._reserved.close()

    async def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._set(Link.CUT, frozenset())
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop(self._connections)

    async def black_hole(self, directions: frozenset[str] = BOTH) -> None:
        """Keep connections open and accept new ones, but let nothing through in `directions`."""
        await self._start()
        self._set(Link.BLACK_HOLE, directions)

    async def stall(self) -> None:
        """Let nothing through until `heal()`, which delivers what was sent meanwhile."""
        await self._start()
        self._set(Link.STALLED, frozenset())

    async def heal(self) -> None:
        """Forward again; connections that lost bytes in a black hole are reset, as they must be."""
        self._set(Link.HEALTHY, frozenset())
        await self._drop({c for c in self._connections if c.holes})
        await self._start()

    def slow(
        self,
        *,
        latency_s: float = 0.0,
        jitter_s: float = 0.0,
        bytes_per_s: int = 0,
        seed: float = 0.0,
    ) -> None:
        """Make each chunk late by `latency_s` and up to `jitter_s`, and by its size; by default not at all."""
        self._latency_s, self._jitter_s, self._bytes_per_s = latency_s, jitter_s, bytes_per_s
        self._random = random.Random(seed)

    def stats(self) -> dict[str, object]:
        """Return counters and state."""
        return {
            "link": self.link.value,
            "accepted": self.accepted_count,
            "open": len(self._connections),
            "passed_bytes": self.passed_bytes,
            "dropped_bytes": self.dropped_bytes,
        }

    def _set(self, link: Link, dropping: frozenset[str]) -> None:
        self.link, self._dropping = link, dropping
        if link is Link.STALLED:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _start(self) -> None:
        if self._server is None:
            listener = _bound((self._listen[0], self.port))
            self._server = await asyncio.start_server(self._serve, sock=listener)

    async def _drop(self, connections: set[_Connection]) -> None:
        dropped = list(connections)
        for connection in dropped:
            connection.reset()
        for connection in dropped:
            await connection.ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        if self.link is Link.CUT:  # accepted just before
            connection.reset()
            return
        self.accepted_count += 1
        self._connections.add(connection)
        connection.forwarding = asyncio.create_task(self._forward(reader, connection))
        try:
            await asyncio.wait([connection.forwarding])
        finally:
            connection.reset()
            self._connections.discard(connection)
            connection.ended.set()
        with suppress(
            OSError, asyncio.CancelledError
        ):  # either end may vanish; that is what we are for
            connection.forwarding.result()

    async def _forward(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        if UP in self._dropping:  # its handshake with the target would not arrive either
            connection.holes.update(BOTH)
            await self._pump(UP, reader, connection.client, connection)
        await self._flowing.wait()
        target_reader, connection.target = await asyncio.open_connection(*self.target)
        await asyncio.gather(
            self._pump(UP, reader, connection.target, connection),
            self._pump(DOWN, target_reader, connection.client, connection),
        )
        for writer in (connection.client, connection.target):
            writer.close()
            await writer.wait_closed()

    async def _pump(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
    ) -> None:
        """Copy until the end of stream; in a black hole swallow everything, the end too."""
        at_end, problem = False, None
        while not at_end:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except OSError as exc:
                chunk, problem = b"", exc
            at_end = not chunk
            await self._delay(len(chunk))
            await self._flowing.wait()
            if direction in self._dropping:
                connection.holes.add(direction)
            if direction in connection.holes:
                self.dropped_bytes[direction] += len(chunk)
            elif chunk:
                self.passed_bytes[direction] += len(chunk)
                writer.write(chunk)
                await writer.drain()
        if direction in connection.holes:
            await asyncio.Event().wait()  # the other side must not learn of it: until `_drop()`
        if problem is not None:
            raise problem
        writer.write_eof()

    async def _delay(self, size_bytes: int) -> None:
        delay_s = self._latency_s + self._random.random() * self._jitter_s
        if self._bytes_per_s:
            delay_s += size_bytes / self._bytes_per_s
        if delay_s:
            await asyncio.sleep(delay_s)


def _bound(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(address)
    bound.setblocking(False)
    return bound


async def _answer(proxy: TcpProxy, line: str) -> str:
    """Carry out one command of the control socket; return the line that answers it."""
    command, *arguments = line.split() or [""]
    plain = {"cut": proxy.cut, "stall": proxy.stall, "heal": proxy.heal}
    if command in plain and not arguments:
        await plain[command]()
    elif command == "black_hole" and BOTH.issuperset(arguments):
        await proxy.black_hole(frozenset(arguments) or BOTH)
    elif command == "stats" and not arguments:
        return json.dumps(proxy.stats())
    else:
        return f"error: {line.strip()!r} is none of cut, black_hole [up|down], stall, heal, stats"
    return "ok"


async def _run(listen: tuple[str, int], target: tuple[str, int], control: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def serve_control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                writer.write((await _answer(proxy, line.decode(errors="replace")) + "\n").encode())
                await writer.drain()
        writer.close()

    async with TcpProxy(*target, listen=listen) as proxy:
        server = await asyncio.start_unix_server(serve_control, control) if control else None
        print(f"listening {proxy.address}", flush=True)  # noqa: T201 - the caller reads it
        await stop.wait()
        if server:
            server.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def main() -> None:
    """Run the proxy as a process until SIGTERM."""
    parser = argparse.ArgumentParser(description="TCP proxy that breaks on command")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--target", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--control", type=Path, help="unix socket for commands")
    arguments = parser.parse_args()
    try:
        asyncio.run(_run(arguments.listen, arguments.target, arguments.control))
    finally:
        if arguments.control:
            arguments.control.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
