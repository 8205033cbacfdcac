"""A client's request to switch protocols, joined to a kubelet's: as it is, or translated.

| the client speaks                                    | the kubelet is asked for | between them        |
|------------------------------------------------------|--------------------------|---------------------|
| SPDY/3.1 (kubectl up to 1.29, client-go's default)   | the same                 | bytes               |
| WebSocket v4.channel.k8s.io and older (Python)       | the same                 | bytes               |
| WebSocket v5.channel.k8s.io (kubectl from 1.30)      | SPDY/3.1                 | channels to streams |
| WebSocket SPDY/3.1+portforward.k8s.io (kubectl 1.31) | SPDY/3.1                 | the wrap taken off  |
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Any

from aiohttp import WSMsgType, web

from kubecore.errors import bad_request
from kubecore.serving.hijack import Hijacked, take_over
from kubecore.streams.channels import V5, ChannelTranslator, Wanted
from kubecore.streams.errors import SpdyError
from kubecore.streams.forwarding import PROTOCOL as PORT_FORWARD
from kubecore.streams.kubelet import SPDY, Endpoint, KubeletClient, Upgraded
from kubecore.streams.pipes import CHUNK_BYTES, Pipe, splice

logger = logging.getLogger(__name__)

TUNNEL = "SPDY/3.1+portforward.k8s.io"
_COMMAND = "v4.channel.k8s.io"
# What is passed on of the client's request, and of the kubelet's answer to it.
_ASKED = (
    "x-stream-protocol-version",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
)
_ANSWERED = ("connection", "upgrade", "x-stream-protocol-version", "sec-websocket-")
# kubectl sends 32 KiB at a time.
MAX_MESSAGE_BYTES = 4 << 20


async def serve_upgrade(
    request: web.Request,
    kubelets: KubeletClient,
    endpoint: Endpoint,
    path: str,
    wanted: Wanted | None = None,
) -> web.StreamResponse:
    """Answer once the connection has ended. Shapes: wanted: the streams of a command; None for ports.

    Raises:  ApiStatusError, KubeletAnswerError: refused, and nothing was answered yet.
    """
    kind = request.headers.get("Upgrade", "").lower()
    switching = "upgrade" in request.headers.get("Connection", "").lower()
    if not switching or kind not in ("websocket", SPDY.lower()):
        raise bad_request("Upgrade request required")
    offered = _protocols(request) if kind == "websocket" else []
    if wanted is not None and V5 in offered:
        upgraded = await kubelets.dial_spdy(endpoint, path, _COMMAND)
        return await _translate(request, upgraded.pipe, ChannelTranslator(wanted))
    if wanted is None and TUNNEL in offered:
        upgraded = await kubelets.dial_spdy(endpoint, path, PORT_FORWARD)
        return await _unwrap(request, upgraded.pipe)
    headers = [("Connection", "Upgrade"), ("Upgrade", request.headers["Upgrade"])]
    headers += [(k, v) for k, v in request.headers.items() if k.lower() in _ASKED]
    if request.method == "POST":
        headers.append(("Content-Length", "0"))
    return await join(request, await kubelets.upgrade(endpoint, request.method, path, headers))


async def join(request: web.Request, upgraded: Upgraded) -> web.StreamResponse:
    """Both ends speak the same: carry bytes."""
    try:
        kept = [(k, v) for k, v in upgraded.headers if k.lower().startswith(_ANSWERED)]
        await joined(take_over(request, kept), upgraded.pipe)
    finally:
        upgraded.pipe.writer.close()
    return Hijacked()


async def joined(client: Pipe, other: Pipe) -> None:
    """Carry bytes both ways until one end closes; then the client's end is closed, not left to be collected."""
    try:
        await splice(client, other)
    finally:
        client.writer.close()


async def _unwrap(request: web.Request, kubelet: Pipe) -> web.StreamResponse:
    """Carry the SPDY in the client's binary messages as plain bytes, and back."""

    async def from_client() -> None:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                kubelet.writer.write(message.data)
                await kubelet.writer.drain()

    async def from_kubelet() -> None:
        while data := await kubelet.reader.read(CHUNK_BYTES):
            await socket.send_bytes(data)

    socket = await _accept(request, kubelet, TUNNEL)
    return await _run(socket, kubelet, from_client(), from_kubelet())


async def _translate(
    request: web.Request, kubelet: Pipe, translator: ChannelTranslator
) -> web.StreamResponse:
    """Carry the channels of the client's WebSocket as streams of SPDY, and back."""
    socket = await _accept(request, kubelet, V5)
    kubelet.writer.write(translator.opening())
    if greeting := translator.greeting():
        await socket.send_bytes(greeting)
    back = _to_channels(kubelet, translator, socket)
    return await _run(socket, kubelet, _to_streams(socket, translator, kubelet), back)


async def _to_streams(
    socket: web.WebSocketResponse, translator: ChannelTranslator, kubelet: Pipe
) -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            frame = translator.to_kubelet(message.data)
        elif message.type is WSMsgType.TEXT:  # the Python client, when it is given text
            frame = translator.to_kubelet(message.data.encode())
        else:
            continue
        kubelet.writer.write(frame)
        await kubelet.writer.drain()


async def _to_channels(
    kubelet: Pipe, translator: ChannelTranslator, socket: web.WebSocketResponse
) -> None:
    try:
        while not translator.ended and (data := await kubelet.reader.read(CHUNK_BYTES)):
            messages, answers = translator.from_kubelet(data)
            kubelet.writer.write(answers)
            for message in messages:
                await socket.send_bytes(message)
    except SpdyError as exc:
        logger.warning("a kubelet does not speak SPDY: %s", exc)
    except (ConnectionError, ssl.SSLError):
        logger.debug("a connection of a command was lost")
    if last := translator.farewell():
        await socket.send_bytes(last)


async def _accept(request: web.Request, kubelet: Pipe, protocol: str) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(
        protocols=[protocol], max_msg_size=MAX_MESSAGE_BYTES, compress=False
    )
    try:
        await socket.prepare(request)
    except BaseException:
        kubelet.writer.close()
        raise
    return socket


async def _run(
    socket: web.WebSocketResponse, kubelet: Pipe, *both: Coroutine[Any, Any, None]
) -> web.WebSocketResponse:
    """Run both directions until one has ended, then close both ends."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_quietly(one)) for one in both]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        await socket.close()
    finally:
        kubelet.writer.close()
    return socket


async def _quietly(direction: Coroutine[Any, Any, None]) -> None:
    try:
        await direction
    except (ConnectionError, ssl.SSLError) as exc:
        logger.debug("a stream ended with its connection: %s", exc)


def _protocols(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for line in lines for name in line.split(",")]
