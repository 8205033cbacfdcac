"""One client's connection: HTTP/1.1 by h11 until it is upgraded, then a byte pipe that never becomes HTTP again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import h11

from cloudcore.nodeproxy.routes import Request

READ_BYTES = 64 << 10
# A command line travels in the path: what a kernel takes as one argument (128 KiB) is refused, the rest is not.
MAX_HEAD_BYTES = 96 << 10
# Of a request to an API that takes none; it is read so that the connection can be used again.
MAX_BODY_BYTES = 64 << 10
# Between requests a client's pool keeps a connection as long as kubelet would.
IDLE_TIMEOUT_S = 90.0
HEAD_TIMEOUT_S = 10.0


class ClientGoneError(Exception):
    """The client hung up, or sends what is no HTTP. Never leaves this package."""


class ClientConnection:
    """Requests in, answers out; one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The client's certificate, verified by TLS; None if it gave none."""
        found: Mapping[str, Any] | None = self._writer.get_extra_info("peercert")
        return found or None

    async def request(self) -> Request:
        """Return the next request. Raises: ClientGoneError."""
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                event = await self._event()
            if not isinstance(event, h11.Request):
                raise ClientGoneError
            return _request(event)
        except TimeoutError as exc:
            raise ClientGoneError from exc
        except h11.RemoteProtocolError as exc:
            await self._refuse_garbage(exc)
            raise ClientGoneError from exc

    async def discard_body(self) -> None:
        """Read what came with the request. Raises: ClientGoneError: it is more than this API ever needs."""
        size_bytes = 0
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                while self._http.their_state is h11.SEND_BODY:
                    event = await self._event()
                    if isinstance(event, h11.Data):
                        size_bytes += len(event.data)
                    if size_bytes > MAX_BODY_BYTES or isinstance(event, h11.ConnectionClosed):
                        raise ClientGoneError
        except (TimeoutError, h11.RemoteProtocolError) as exc:
            raise ClientGoneError from exc

    async def answer(self, status: int, text: str) -> None:
        """Send a whole answer."""
        body = (text.rstrip("\n") + "\n").encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if self._http.our_state is not h11.SEND_RESPONSE and self._http.our_state is not h11.IDLE:
            raise ClientGoneError  # an answer has begun: there is no place for another one
        await self._send(
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )

    async def begin(self, content_type: str) -> None:
        """Begin an answer whose length nobody knows yet."""
        headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
        await self._send(h11.Response(status_code=200, headers=headers))

    async def more(self, content: bytes) -> None:
        """Send some of it; waits while the client does not read."""
        await self._send(h11.Data(data=content))

    async def finish(self) -> None:
        """End it."""
        await self._send(h11.EndOfMessage())

    async def switch(self, headers: list[tuple[str, str]]) -> bytes:
        """Send 101; return what the client had sent already. From now on only `read` and `write`."""
        await self._send(h11.InformationalResponse(status_code=101, headers=headers))
        early, _ = self._http.trailing_data
        return bytes(early)

    @property
    def reusable(self) -> bool:
        """Make ready for the next request; return whether there may be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def gone(self) -> None:
        """Return when the client has hung up; what it sends ahead of its turn is kept, up to a head's length."""
        ahead_bytes = 0
        while ahead_bytes <= MAX_HEAD_BYTES:
            try:
                chunk = await self._reader.read(READ_BYTES)
            except OSError:
                return
            if not chunk:
                return
            ahead_bytes += len(chunk)
            self._http.receive_data(chunk)

    async def read(self) -> bytes:
        """Return what the client sends after the switch, b"" at its end."""
        try:
            return await self._reader.read(READ_BYTES)
        except OSError:
            return b""

    async def write(self, content: bytes) -> None:
        """Send bytes after the switch. Raises: ClientGoneError."""
        try:
            self._writer.write(content)
            await self._writer.drain()
        except (
            OSError,
            RuntimeError,
        ) as exc:  # uvloop says RuntimeError of a transport that is closed
            raise ClientGoneError from exc

    def close(self) -> None:
        """Hang up, after what was written."""
        self._writer.close()

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                chunk = await self._reader.read(READ_BYTES)
            except OSError as exc:
                raise ClientGoneError from exc
            self._http.receive_data(chunk)
        return event

    async def _send(self, *events: Any) -> None:
        try:
            parts = [self._http.send(event) or b"" for event in events]
        except h11.LocalProtocolError as exc:
            raise ClientGoneError from exc
        await self.write(b"".join(parts))

    async def _refuse_garbage(self, exc: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.answer(exc.error_status_hint, "this is no request of HTTP/1.1")


def _request(event: h11.Request) -> Request:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
    return Request(event.method.decode(), event.target.decode("latin-1"), headers)
