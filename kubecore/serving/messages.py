"""A body for a client that asked for it over a WebSocket: each piece a message, as upstream sends a pod's log."""

from __future__ import annotations

import asyncio
import base64
import logging

from aiohttp import ClientError, ClientResponse, web

logger = logging.getLogger(__name__)

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"


def wants_messages(request: web.Request) -> bool:
    """Return whether the client asked for a WebSocket."""
    switching = "upgrade" in request.headers.get("Connection", "").lower()
    return switching and request.headers.get("Upgrade", "").lower() == "websocket"


async def send_messages(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    """Send the kubelet's body as it comes, after an empty message that says it begins.

    Source:  k8s.io/apiserver wsstream.Reader; without a protocol the messages are binary.
    """
    socket = web.WebSocketResponse(protocols=[BINARY, BASE64], compress=False)
    await socket.prepare(request)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(socket, answer))
        # The client has nothing to say but that it goes.
        leaving = group.create_task(_until_closed(socket))
        await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        leaving.cancel()
    await socket.close()
    return socket


async def _send(socket: web.WebSocketResponse, answer: ClientResponse) -> None:
    text = socket.ws_protocol == BASE64
    try:
        await (socket.send_str("") if text else socket.send_bytes(b""))
        async for chunk in answer.content.iter_any():
            if text:
                await socket.send_str(base64.b64encode(chunk).decode())
            else:
                await socket.send_bytes(chunk)
    except (ClientError, OSError) as exc:
        logger.debug("a log over a WebSocket was broken off: %s", exc)


async def _until_closed(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass
