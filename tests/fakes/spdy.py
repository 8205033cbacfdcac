"""A small SPDY/3.1 client, as an API server uses it to dial a kubelet: streams, half-close, resets. No flow control.

Source: the SPDY/3.1 draft; the names of streams and headers are those of Kubernetes' remotecommand and portforward.
"""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from dataclasses import dataclass, field

WORDS = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
]
MORE_WORDS = (
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
)
TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(w)) + w.encode() for w in (*WORDS, *MORE_WORDS)) + TAIL.encode()
)
assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2, hex(zlib.adler32(DICTIONARY))

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 9
FIN = 1


class SpdyRefusedError(Exception):
    """No 101. Shapes: head: what came instead."""

    def __init__(self, status, head, body):
        self.status, self.head, self.body = status, head, body
        super().__init__(f"{status}: {body!r}")


@dataclass
class Stream:
    id: int
    headers: dict
    content: bytearray = field(default_factory=bytearray)
    replied: bool = False
    ended: bool = False
    reset: int | None = None


class SpdyClient:
    """One upgraded connection. `streams` by id; whatever comes is kept."""

    def __init__(self, reader, writer, head):
        self.reader, self.writer, self.head = reader, writer, head
        self.streams: dict[int, Stream] = {}
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._next_id = 1
        self.over = False
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._receive())

    @classmethod
    async def dial(cls, host, port, path, *, tls=None, headers=(), method="POST", protocols=()):
        """Upgrade; `headers` besides those of the upgrade. Raises: SpdyRefusedError."""
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Content-Length: 0"]
        lines += ["Connection: Upgrade", "Upgrade: SPDY/3.1"]
        lines += [f"X-Stream-Protocol-Version: {p}" for p in protocols]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join((*lines, "", "")).encode())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status = int(head.split(" ", 2)[1])
            if status != 101:
                body = await _body(head, reader)
                raise SpdyRefusedError(status, head, body)
        except BaseException:
            writer.transport.abort()
            raise
        return cls(reader, writer, head)

    def open(self, **headers):
        """Open a stream; `stream_type="stdin"` becomes `streamtype`, as Kubernetes writes it."""
        named = {name.replace("_", ""): str(value) for name, value in headers.items()}
        stream = Stream(self._next_id, named)
        self._next_id += 2
        self.streams[stream.id] = stream
        block = struct.pack(">I", len(named))
        for name, value in named.items():
            for text in (name, value):
                block += struct.pack(">I", len(text)) + text.encode()
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._control(SYN_STREAM, struct.pack(">IIH", stream.id, 0, 0) + packed)
        return stream

    async def send(self, stream, content, *, end=False):
        for at in range(0, len(content), 32768):
            piece = content[at : at + 32768]
            self.writer.write(struct.pack(">II", stream.id, len(piece)) + piece)
            await self.writer.drain()
        if end:
            self.writer.write(struct.pack(">II", stream.id, FIN << 24))
            await self.writer.drain()

    async def until(self, check):
        """Wait until `check()`; the connection's end counts as a last change."""
        while not check():
            assert not self.over, "the connection ended first"
            self._changed.clear()
            await self._changed.wait()

    async def ended(self):
        """Wait for the connection's end."""
        while not self.over:
            self._changed.clear()
            await self._changed.wait()

    async def close(self):
        self._task.cancel()
        await asyncio.wait([self._task])
        self.writer.transport.abort()

    def _control(self, kind, payload, flags=0):
        self.writer.write(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload)

    async def _receive(self):
        try:
            while True:
                first, second = struct.unpack(">II", await self.reader.readexactly(8))
                payload = await self.reader.readexactly(second & 0xFFFFFF)
                self._take(first, second >> 24, payload)
                self._changed.set()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.over = True
            self._changed.set()

    def _take(self, first, flags, payload):
        if not first >> 31:
            stream = self.streams[first]
            stream.content += payload
            stream.ended = stream.ended or bool(flags & FIN)
            return
        kind = first & 0xFFFF
        if kind == PING:
            self._control(PING, payload)
        elif kind == RST_STREAM:
            stream_id, status = struct.unpack(">II", payload)
            self.streams[stream_id].reset = status
        elif kind == SYN_REPLY:
            stream = self.streams[struct.unpack(">I", payload[:4])[0]]
            self._inflate.decompress(payload[4:])
            stream.replied, stream.ended = True, stream.ended or bool(flags & FIN)
        elif kind == GOAWAY:
            self.over = True


async def _body(head, reader):
    for line in head.split("\r\n"):
        if line.lower().startswith("content-length:"):
            return await reader.readexactly(int(line.split(":")[1]))
    return await reader.read(4096)


class Run:
    """A command or an attached process: error, stdin, stdout, stderr as Kubernetes opens them."""

    def __init__(self, client, *, stdin=False, stdout=True, stderr=True, tty=False):
        self.client = client
        self.error = client.open(stream_type="error")
        self.stdin = client.open(stream_type="stdin") if stdin else None
        self.stdout = client.open(stream_type="stdout") if stdout else None
        self.stderr = client.open(stream_type="stderr") if stderr and not tty else None
        self.resize = client.open(stream_type="resize") if tty else None

    async def finished(self):
        """Wait for the end of the stream or of all; return the status that came with it."""
        await self.client.until(
            lambda: self.error.ended or (self.client.over and self.error.content)
        )
        return json.loads(bytes(self.error.content) or b"null")
