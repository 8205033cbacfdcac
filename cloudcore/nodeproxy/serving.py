"""Requests of one connection, one after the other: who, may they, what, and the bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from cloudcore.kube.reviews import DeniedError, ReviewError, UnauthenticatedError
from cloudcore.nodeproxy.access import Access
from cloudcore.nodeproxy.connection import ClientConnection, ClientGoneError
from cloudcore.nodeproxy.routes import Plain, Request, RouteError, Upgraded, question, route
from cloudcore.nodeproxy.upgrade import NotUpgradedError, read_answer
from cloudcore.seams import NodeStreams, StreamRefusedError
from corekit.bytestream import ByteStream, StreamBrokenError
from synccore.targets import Target, TargetError, encode_target
from synccore.tunnels import BAD_REQUEST, NOT_FOUND, TOO_MANY, UNAVAILABLE

logger = logging.getLogger(__name__)

_STATUSES = {BAD_REQUEST: 400, NOT_FOUND: 404, TOO_MANY: 429, UNAVAILABLE: 503}
# A node may take as long to begin as its container runtime; then silence is the runtime's business.
ANSWER_TIMEOUT_S = 30.0
# After a client has hung up: what it sent last should still reach the process.
LINGER_S = 5.0


class NodeServer:
    """The kubelet's API of one node."""

    def __init__(self, node: str, streams: NodeStreams, access: Access) -> None:
        self._node, self._streams, self._access = node, streams, access

    async def serve(self, client: ClientConnection) -> None:
        """Serve a connection to its end."""
        try:
            while True:
                request = await client.request()
                await self._serve_one(client, request)
                if not client.reusable:
                    return
        except ClientGoneError:
            return
        finally:
            client.close()

    async def _serve_one(self, client: ClientConnection, request: Request) -> None:
        try:
            # Each time anew: a connection says nothing about who sends the next request.
            user = await self._access.user(client.certificate, request.header("authorization"))
            await self._access.check(user, question(self._node, request))
            wanted = route(request)
            await client.discard_body()
            if isinstance(wanted, Upgraded):
                await self._upgrade(client, wanted)
            else:
                await self._plain(client, wanted, empty=request.method == "HEAD")
        except UnauthenticatedError:
            await client.answer(401, "Unauthorized")
        except DeniedError as exc:
            await client.answer(403, str(exc))
        except ReviewError as exc:
            await client.answer(500, str(exc))
        except (RouteError, NotUpgradedError) as exc:
            await client.answer(exc.status, str(exc))
        except TargetError as exc:
            await client.answer(400, str(exc))
        except StreamRefusedError as exc:
            await client.answer(_STATUSES.get(exc.code, 502), str(exc))
        except StreamBrokenError as exc:
            logger.debug("nodeproxy: %s", exc, extra={"node": self._node})
            await client.answer(502, f"node {self._node}: {exc}")

    async def _plain(self, client: ClientConnection, wanted: Plain, *, empty: bool) -> None:
        stream = await self._open(wanted.target)
        try:
            stream.end()
            await _first(self._copy(client, wanted, stream, empty=empty), client.gone())
        finally:
            stream.close()

    async def _copy(
        self, client: ClientConnection, wanted: Plain, stream: ByteStream, *, empty: bool
    ) -> None:
        begun = False
        while True:
            chunk = await stream.read()
            if not begun:  # not before: an error that comes first has a status of its own
                await client.begin(wanted.content_type)
                begun = True
            if not chunk:
                break
            if not empty:
                await client.more(chunk)
        await client.finish()

    async def _upgrade(self, client: ClientConnection, wanted: Upgraded) -> None:
        stream = await self._open(wanted.target)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                headers, began = await read_answer(stream, wanted.target.upgrade, wanted.protocol)
        except TimeoutError:
            stream.close("no answer in time")
            raise NotUpgradedError(504, "the runtime did not answer the upgrade in time") from None
        except BaseException:
            stream.close("the upgrade failed")
            raise
        try:
            early = await client.switch(headers)
            await self._pipe(client, stream, early, began)
        finally:
            stream.close()

    async def _pipe(
        self, client: ClientConnection, stream: ByteStream, early: bytes, began: bytes
    ) -> None:
        async def up() -> None:
            chunk = early or await client.read()
            while chunk:
                await stream.write(chunk)
                chunk = await client.read()
            stream.end()
            await asyncio.sleep(LINGER_S)

        async def down() -> None:
            chunk = began or await stream.read()
            while chunk:
                await client.write(chunk)
                chunk = await stream.read()

        try:
            await _first(down(), up())
        except StreamBrokenError as exc:  # whatever it speaks, only its end can be told
            logger.debug("nodeproxy: stream broke: %s", exc, extra={"node": self._node})
        raise ClientGoneError

    async def _open(self, target: Target) -> ByteStream:
        return await self._streams.open_stream(self._node, encode_target(target))


async def _first(*works: Awaitable[None]) -> None:
    """Run until one of `works` ends; raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()
