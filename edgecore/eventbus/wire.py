"""The socket between the MQTT client library and the broker: what comes and goes at rate passes the library by.

The library (paho, under aiomqtt) reads a packet in three system calls and some hundred lines of Python. It gets to see
everything but PUBLISH and PUBACK: greetings, subscriptions, pings and goodbyes stay its own. What is read in one system
call is taken apart in one call of the compiled codec.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from edgecore.eventbus.packet_rules import PacketError
from edgecore.eventbus.packets import cut_publish, packet_bytes, split_packets

# One system call: some 500 messages of one value. More would only be memory.
READ_BYTES = 64 << 10
# A broker must not send what no payload limit will accept; above the limit, so that a sender gets its 400.
MAX_PACKET_BYTES = 2 << 20
# What is kept of a packet that a broker of MQTT 3.1.1, which cannot be told so, sends all the same: refused for its size.
CUT_BYTES = 512 << 10
# The library is told that often that the broker lives while messages come: the answer to its ping may be far behind them.
ALIVE_S = 10.0
_PINGRESP = b"\xd0\x00"
_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Peer(Protocol):
    """Who gets what passes the library by. All calls on the event loop."""

    def received(self, publishes: Sequence[tuple[str, bytes, int]]) -> None:
        """Take messages: (topic, payload, packet id; 0 at QoS 0)."""

    def answered(self, count: int) -> None:
        """Note that the broker has `count` more of our messages."""

    def writable(self) -> None:
        """Note that everything written has left."""

    def broken(self, problem: str) -> None:
        """Note that the broker sends what cannot be read."""


class Wire:
    """A connected socket, as paho wants one. Made on any thread, used on the event loop."""

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        loop: asyncio.AbstractEventLoop,
        *,
        modern: bool,
        alive_s: float = ALIVE_S,
    ) -> None:
        self._alive_s, self._told_s = alive_s, loop.time()
        self._socket, self._peer, self._loop, self._modern = sock, peer, loop, modern
        self._library_reads: Callable[[], object] = lambda: None
        self._for_library = bytearray()
        self._odd = b""  # the beginning of a packet
        self._skip_bytes = 0  # of a packet that was cut
        self._waiting = bytearray()  # what the kernel had no room for
        self._reading = self._ended = self._closed = False

    def start(self, library_reads: Callable[[], object]) -> None:
        """Read from now on; `library_reads` takes one packet through `recv`."""
        self._library_reads = library_reads
        self.resume()

    def pause(self) -> None:
        """Read nothing: the broker, and then its senders, have to wait."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        """Read on."""
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._readable)

    @property
    def blocked(self) -> bool:
        """Whether what was written waits still; `Peer.writable` tells of its end."""
        return bool(self._waiting)

    def write(self, packets: bytes) -> None:
        """Send whole packets, or keep them until they can be sent. The caller looks at `blocked` first."""
        if packets and not self._closed:
            self.send(packets)

    # What paho calls.

    def recv(self, buffersize: int) -> bytes:
        """Return bytes of packets that are the library's; raise BlockingIOError if there are none."""
        if not self._for_library and not self._ended:
            self._read()
        if not self._for_library:
            if self._ended:
                return b""
            raise BlockingIOError
        taken = bytes(self._for_library[:buffersize])
        del self._for_library[:buffersize]
        return taken

    def send(self, buffer: bytes | bytearray) -> int:
        """Send, or keep; everything counts as sent."""
        sent = 0
        if not self._waiting:
            with contextlib.suppress(*_WAIT):
                sent = self._socket.send(buffer)
        if sent < len(buffer):
            if not self._waiting:
                self._loop.add_writer(self._socket.fileno(), self._flush)
            self._waiting += buffer[sent:]
        return len(buffer)

    def pending(self) -> int:
        """Return how many bytes there are that no selector tells of."""
        inside = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return len(self._for_library) + inside

    def close(self) -> None:
        """Close, after a last attempt to send what waits: it may be the goodbye."""
        if self._closed:
            return
        self.pause()
        self._closed = True
        if self._waiting:
            self._loop.remove_writer(self._socket.fileno())
            with contextlib.suppress(OSError):
                self._socket.send(self._waiting)
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - a socket's own signature
        """Switch the socket's blocking mode."""
        self._socket.setblocking(flag)

    def _readable(self) -> None:
        try:
            self._library_reads()
            while self.pending() and not self._closed:
                self._library_reads()
        except Exception as exc:  # noqa: BLE001 - the library raises whatever a malformed packet makes of it
            self._break(f"{type(exc).__name__}: {exc}")

    def _read(self) -> None:
        fresh = self._socket.recv(READ_BYTES)
        if not fresh:
            self._ended = True
            return
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(fresh))
            self._skip_bytes -= skipped
            fresh = fresh[skipped:]
        buf = self._odd + fresh if self._odd else fresh
        try:
            publishes, acknowledged, others, consumed = split_packets(buf, modern=self._modern)
            self._odd = buf[consumed:] if consumed < len(buf) else b""
            if len(self._odd) > CUT_BYTES and (size := packet_bytes(self._odd)) > MAX_PACKET_BYTES:
                publishes += self._cut(size)
        except PacketError as exc:
            self._break(str(exc))
            return
        self._for_library += others
        if others:
            self._told_s = self._loop.time()
        elif self._loop.time() - self._told_s >= self._alive_s:
            self._told_s = self._loop.time()
            self._for_library += _PINGRESP
        if publishes:
            self._peer.received(publishes)
        if acknowledged:
            self._peer.answered(len(acknowledged))

    def _cut(self, size: int) -> list[tuple[str, bytes, int]]:
        """Return the beginning of a message that is far too large; what follows of it is skipped."""
        if self._odd[0] & 0xF0 != 0x30:
            raise PacketError(f"a packet of {size} bytes that is no message", 0)
        publishes = split_packets(cut_publish(self._odd), modern=self._modern)[0]
        self._skip_bytes = size - len(self._odd)
        self._odd = b""
        return publishes

    def _break(self, problem: str) -> None:
        self._ended = True
        self.pause()
        self._peer.broken(problem)

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._waiting)
        except _WAIT:
            return
        except OSError as exc:
            self._waiting.clear()
            self._break(str(exc))
        else:
            del self._waiting[:sent]
        if not self._waiting:
            self._loop.remove_writer(self._socket.fileno())
            self._peer.writable()
