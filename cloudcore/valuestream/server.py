"""The component that serves values to programs over gRPC: by certificate or token, and nothing that RBAC does not allow.

Source: docs/protocol.md, section 11.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Self

import grpc

from cloudcore.history.keeper import History
from cloudcore.kube.reviews import ReviewError, UnauthenticatedError, User
from cloudcore.samples import SampleFanout
from cloudcore.settings import HubSettings, ValueSettings
from cloudcore.valuestream.access import Gate
from cloudcore.valuestream.messages import Listener, MessageHub
from cloudcore.valuestream.seen import LastSeen
from cloudcore.valuestream.subscription import Subscription, Wanted, messages
from corekit.errors import SETTINGS, ConfigError
from synccore.pb import values_pb2, values_pb2_grpc
from synccore.series import Series

logger = logging.getLogger(__name__)

# Of one call: each is asked of the API server, at the beginning and again every `RECHECK_S`.
MAX_DEVICES = 100
# A right that is taken away ends a stream within this.
RECHECK_S = 60.0
# A call holds up to 10 MiB for a reader that is slow; one more is answered RESOURCE_EXHAUSTED.
MAX_CALLS = 128
# They wait in memory until the last one is known.
MAX_NEWEST = 100_000
_STOP_GRACE_S = 1.0


class ValueServer:
    """Serve `armadillo.values.v1.Values` on `values.address` and `values.token_address`."""

    name = "values"

    def __init__(
        self,
        settings: ValueSettings,
        hub: HubSettings,
        *,
        fanout: SampleFanout,
        history: History,
        gate: Gate,
        messages: MessageHub | None = None,
        seen: LastSeen | None = None,
    ) -> None:
        self._settings, self._hub = settings, hub
        self._fanout, self._history, self._gate = fanout, history, gate
        self._messages, self._seen = messages or MessageHub(), seen
        self._server: Any = None

    async def __aenter__(self) -> Self:
        """Bind the ports. Raises: ConfigError."""
        settings = self._settings
        if not settings.address and not settings.token_address:
            return self
        with_certificate, with_token = await asyncio.to_thread(_credentials, settings, self._hub)
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=MAX_CALLS
        )
        servicer = _Servicer(self)
        values_pb2_grpc.add_ValuesServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        self._bind("values.address", settings.address, with_certificate)
        self._bind("values.token_address", settings.token_address, with_token)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End every call."""
        if self._server is not None:
            await self._server.stop(_STOP_GRACE_S)

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._server is not None:
            await self._server.start()
            served = filter(None, (self._settings.address, self._settings.token_address))
            logger.info("values: serving on %s", " and ".join(served))
        await asyncio.Event().wait()

    async def watch(self, devices: Sequence[str], context: Any) -> AsyncIterator[values_pb2.Batch]:
        """Yield values of `devices` until the caller ends the call or loses the right to see them."""
        problem = _bad_names(devices)
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        await self._admit(context, devices, "watch")
        subscription = Subscription(Wanted(devices))
        self._fanout.subscribe(subscription)
        loop = asyncio.get_running_loop()
        checked_s = loop.time()
        try:
            # What comes from now on is in the stream: whoever waits for this may look back now and misses nothing.
            await context.send_initial_metadata(())
            while True:
                batches: Iterator[values_pb2.Batch] = iter(())
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        batches = await subscription.batches()
                for batch in chain((None,), batches):
                    if loop.time() - checked_s >= RECHECK_S:
                        await self._admit(context, devices, "watch")
                        checked_s = loop.time()
                    if batch is not None:
                        yield batch
        finally:
            self._fanout.unsubscribe(subscription)

    async def history(
        self, request: values_pb2.HistoryRequest, context: Any
    ) -> AsyncIterator[values_pb2.Batch]:
        """Yield what is kept of one property."""
        problem = _bad_names([request.device])
        if request.newest_count > MAX_NEWEST:
            problem = f"newest_count {request.newest_count} is above {MAX_NEWEST}"
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        await self._admit(context, [request.device], "get")
        series = Series(request.device, request.property)
        async for page in self._history.read(
            *series,
            since_ms=request.since_ms,
            until_ms=request.until_ms,
            newest_count=request.newest_count,
        ):
            for batch in messages((series, time_ms, value) for time_ms, value in page):
                yield batch

    async def seen(self, devices: Sequence[str], context: Any) -> values_pb2.SeenReply:
        """Return when devices were heard last."""
        if problem := _bad_names(devices):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        await self._admit(context, devices, "get")
        known = self._seen.of(devices) if self._seen else ()
        return values_pb2.SeenReply(
            sightings=[values_pb2.Sighting(device=d, time_ms=t) for d, t in known]
        )

    async def messages(
        self, nodes: Sequence[str], context: Any
    ) -> AsyncIterator[values_pb2.MessageBatch]:
        """Yield what programs at these nodes upload until the caller ends the call or loses the right to see it."""
        if len(nodes) > MAX_DEVICES:
            many = f"{len(nodes)} nodes; there must be at most {MAX_DEVICES}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, many)
        await self._admit_messages(context, nodes)
        listener = Listener(nodes)
        self._messages.subscribe(listener)
        loop = asyncio.get_running_loop()
        checked_s = loop.time()
        try:
            await context.send_initial_metadata(())  # what comes from now on is in the stream
            while True:
                batch = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        batch = await listener.batch()
                if loop.time() - checked_s >= RECHECK_S:
                    await self._admit_messages(context, nodes)
                    checked_s = loop.time()
                if batch is not None:
                    yield batch
        finally:
            self._messages.unsubscribe(listener)

    async def _admit_messages(self, context: Any, nodes: Sequence[str]) -> None:
        caller = await self._caller(context)
        for node in nodes or [""]:
            if not await self._gate.allows_messages(caller, node):
                what = f"messages of node {node}" if node else "messages of all nodes"
                refusal = f"user {caller.username!r} may not watch {what} (nodes/messages)"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)

    async def _admit(self, context: Any, devices: Sequence[str], verb: str) -> None:
        """Return if the caller may; what the cluster said a moment ago still holds."""
        caller = await self._caller(context)
        for device in devices:
            namespace, _, name = device.partition("/")
            if not await self._gate.allows(caller, verb, namespace, name):
                what = f"device {device}" if name else f"devices in {namespace or 'all namespaces'}"
                refusal = f"user {caller.username!r} may not {verb} {what}"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)

    async def _caller(self, context: Any) -> User:
        try:
            metadata = context.invocation_metadata() or ()
            return await self._gate.caller(context.auth_context(), metadata)
        except UnauthenticatedError as exc:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(exc))
        except ReviewError as exc:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(exc))
        raise AssertionError("abort raises")

    def _bind(self, key: str, address: str, credentials: grpc.ServerCredentials) -> None:
        if not address:
            return
        try:
            self._server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            raise ConfigError(SETTINGS, key, f"{address} cannot be bound") from exc


class _Servicer(values_pb2_grpc.ValuesServicer):
    def __init__(self, server: ValueServer) -> None:
        self._server = server

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[values_pb2.Batch]:  # noqa: N802
        async for batch in self._server.watch(list(request.devices), context):
            yield batch

    async def History(self, request: Any, context: Any) -> AsyncIterator[values_pb2.Batch]:  # noqa: N802
        async for batch in self._server.history(request, context):
            yield batch

    async def Seen(self, request: Any, context: Any) -> values_pb2.SeenReply:  # noqa: N802
        return await self._server.seen(list(request.devices), context)

    async def Messages(  # noqa: N802
        self, request: Any, context: Any
    ) -> AsyncIterator[values_pb2.MessageBatch]:
        async for batch in self._server.messages(list(request.nodes), context):
            yield batch


def _bad_names(devices: Sequence[str]) -> str:
    if not 0 < len(devices) <= MAX_DEVICES:
        return f"{len(devices)} devices; there must be 1 to {MAX_DEVICES}"
    for device in devices:
        if device.count("/") != 1 or len(device) > 512:
            return f"{device[:80]!r} is not namespace/name"
    return ""


def _credentials(
    settings: ValueSettings, hub: HubSettings
) -> tuple[grpc.ServerCredentials, grpc.ServerCredentials]:
    """Return those that ask for a client certificate, and those that do not. Raises: ConfigError."""
    files = (
        settings.key_file or hub.key_file,
        settings.cert_file or hub.cert_file,
        settings.client_ca_file or hub.client_ca_file,
    )
    try:
        key, cert, authority = (Path(name).read_bytes() for name in files)
    except OSError as exc:
        raise ConfigError(SETTINGS, "values", f"{exc.filename}: {exc.strerror}") from exc
    pair = [(key, cert)]
    return (
        grpc.ssl_server_credentials(pair, authority, require_client_auth=True),
        grpc.ssl_server_credentials(pair),
    )
