"""Requests of one connection, one after the other: who, may they, what, and the bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from cloudcore import metrics
from cloudcore.kube.reviews import DeniedError, ReviewError, UnauthenticatedError
from cloudcore.nodeproxy.access import Access
from cloudcore.nodeproxy.connection import ClientConnection, ClientGoneError
from cloudcore.nodeproxy.routes import (
    Plain,
    Request,
    RouteError,
    Upgraded,
    asked_for,
    question,
    route,
)
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
                await self._upgrade(client, wanted, request)
            else:
                await self._plain(client, wanted, request)
        except (
            *(UnauthenticatedError, DeniedError, ReviewError, RouteError, NotUpgradedError),
            *(TargetError, StreamRefusedError, StreamBrokenError),
        ) as exc:
            status, problem = self._refusal(exc)
            _count(request, status)
            await client.answer(status, problem)

    def _refusal(self, exc: Exception) -> tuple[int, str]:
        match exc:
            case UnauthenticatedError():
                return 401, "Unauthorized"
            case DeniedError():
                return 403, str(exc)
            case ReviewError():
                return 500, str(exc)
            case RouteError() | NotUpgradedError():
                return exc.status, str(exc)
            case TargetError():
                return 400, str(exc)
            case StreamRefusedError():
                return _STATUSES.get(exc.code, 502), str(exc)
        logger.debug("nodeproxy: %s", exc, extra={"node": self._node})
        return 502, f"node {self._node}: {exc}"

    async def _plain(self, client: ClientConnection, wanted: Plain, request: Request) -> None:
        stream = await self._open(wanted.target)
        try:
            stream.end()
            await _first(self._copy(client, wanted, stream, request), client.gone())
        finally:
            stream.close()

    async def _copy(
        self, client: ClientConnection, wanted: Plain, stream: ByteStream, request: Request
    ) -> None:
        begun, empty = False, request.method == "HEAD"
        while True:
            chunk = await stream.read()
            if not begun:  # not before: an error that comes first has a status of its own
                _count(request, 200)
                await client.begin(wanted.content_type)
                begun = True
            if not chunk:
                break
            if not empty:
                metrics.node_bytes.labels("up").inc(len(chunk))
                await client.more(chunk)
        await client.finish()

    async def _upgrade(self, client: ClientConnection, wanted: Upgraded, request: Request) -> None:
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
            _count(request, 101)
            with metrics.node_streams.track_inprogress():
                await self._pipe(client, stream, early, began)
        finally:
            stream.close()

    async def _pipe(
        self, client: ClientConnection, stream: ByteStream, early: bytes, began: bytes
    ) -> None:
        async def up() -> None:
            chunk = early or await client.read()
            while chunk:
                metrics.node_bytes.labels("down").inc(len(chunk))
                await stream.write(chunk)
                chunk = await client.read()
            stream.end()
            await asyncio.sleep(LINGER_S)

        async def down() -> None:
            chunk = began or await stream.read()
            while chunk:
                metrics.node_bytes.labels("up").inc(len(chunk))
                await client.write(chunk)
                chunk = await stream.read()

        try:
            await _first(down(), up())
        except StreamBrokenError as exc:  # whatever it speaks, only its end can be told
            logger.debug("nodeproxy: stream broke: %s", exc, extra={"node": self._node})
        raise ClientGoneError

    async def _open(self, target: Target) -> ByteStream:
        return await self._streams.open_stream(self._node, encode_target(target))


def _count(request: Request, status: int) -> None:
    metrics.node_requests.labels(asked_for(request), str(status)).inc()


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
