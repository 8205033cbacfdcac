"""The component that serves values to programs over gRPC: mutual TLS, and nothing that RBAC does not allow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import grpc

from cloudcore.samples import SampleFanout
from cloudcore.settings import HubSettings, ValueSettings
from cloudcore.valuestream.access import Caller, Gate, caller_of
from cloudcore.valuestream.history import History
from cloudcore.valuestream.messages import Listener, MessageHub
from cloudcore.valuestream.seen import LastSeen
from cloudcore.valuestream.subscription import MAX_VALUES, Subscription, Wanted, to_wire
from corekit.errors import SETTINGS, ConfigError
from synccore.pb import values_pb2, values_pb2_grpc
from synccore.series import Series

logger = logging.getLogger(__name__)

# Of one call: each is asked of the API server, at the beginning and again every `RECHECK_S`.
MAX_DEVICES = 100
# A right that is taken away ends a stream within this.
RECHECK_S = 60.0
_STOP_GRACE_S = 1.0


class ValueServer:
    """Serve `armadillo.values.v1.Values` on `values.address`."""

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
        """Bind the port. Raises: ConfigError."""
        self._fanout.subscribe(self._history)
        if not self._settings.address:
            return self
        credentials = await asyncio.to_thread(_credentials, self._settings, self._hub)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        servicer = _Servicer(self)
        values_pb2_grpc.add_ValuesServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        try:
            self._server.add_secure_port(self._settings.address, credentials)
        except RuntimeError as exc:
            taken = f"{self._settings.address} cannot be bound"
            raise ConfigError(SETTINGS, "values.address", taken) from exc
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End every call."""
        self._fanout.unsubscribe(self._history)
        if self._server is not None:
            await self._server.stop(_STOP_GRACE_S)

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._server is not None:
            await self._server.start()
            logger.info("values: serving on %s", self._settings.address)
        await asyncio.Event().wait()

    async def watch(self, devices: Sequence[str], context: Any) -> AsyncIterator[values_pb2.Batch]:
        """Yield values of `devices` until the caller ends the call or loses the right to see them."""
        problem = _bad_names(devices)
        if problem:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        caller = await self._admit(context, devices, "watch")
        subscription = Subscription(Wanted(devices))
        self._fanout.subscribe(subscription)
        loop = asyncio.get_running_loop()
        checked_s = loop.time()
        try:
            while True:
                try:
                    async with asyncio.timeout(RECHECK_S):
                        batches = await subscription.batches()
                except TimeoutError:
                    batches = []
                if loop.time() - checked_s >= RECHECK_S:
                    await self._check(context, caller, devices, "watch")
                    checked_s = loop.time()
                for batch in batches:
                    yield batch
        finally:
            self._fanout.unsubscribe(subscription)

    async def history(
        self, request: values_pb2.HistoryRequest, context: Any
    ) -> AsyncIterator[values_pb2.Batch]:
        """Yield what is kept of one property."""
        if problem := _bad_names([request.device]):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
        await self._admit(context, [request.device], "get")
        series = Series(request.device, request.property)
        kept = list(self._history.read(request.device, request.property, request.since_ms))
        for start in range(0, len(kept), MAX_VALUES):
            part = kept[start : start + MAX_VALUES]
            yield values_pb2.Batch(values=[to_wire(series, t, v) for t, v in part])

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
        caller = await self._caller(context)
        await self._check_messages(context, caller, nodes)
        listener = Listener(nodes)
        self._messages.subscribe(listener)
        loop = asyncio.get_running_loop()
        checked_s = loop.time()
        try:
            while True:
                batch = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        batch = await listener.batch()
                if loop.time() - checked_s >= RECHECK_S:
                    await self._check_messages(context, caller, nodes)
                    checked_s = loop.time()
                if batch is not None:
                    yield batch
        finally:
            self._messages.unsubscribe(listener)

    async def _check_messages(self, context: Any, caller: Caller, nodes: Sequence[str]) -> None:
        for node in nodes or [""]:
            if not await self._gate.allows_messages(caller, node):
                what = f"messages of node {node}" if node else "messages of all nodes"
                refusal = f"user {caller.name!r} may not watch {what} (nodes/messages)"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)

    async def _admit(self, context: Any, devices: Sequence[str], verb: str) -> Caller:
        caller = await self._caller(context)
        await self._check(context, caller, devices, verb)
        return caller

    async def _caller(self, context: Any) -> Caller:
        caller = caller_of(context.auth_context())
        if caller is None:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "the client certificate names no user"
            )
            raise AssertionError("abort raises")
        return caller

    async def _check(self, context: Any, caller: Caller, devices: Sequence[str], verb: str) -> None:
        for device in devices:
            namespace, _, name = device.partition("/")
            if not await self._gate.allows(caller, verb, namespace, name):
                what = f"device {device}" if name else f"devices in {namespace or 'all namespaces'}"
                refusal = f"user {caller.name!r} may not {verb} {what}"
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)


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


def _credentials(settings: ValueSettings, hub: HubSettings) -> grpc.ServerCredentials:
    files = (
        settings.key_file or hub.key_file,
        settings.cert_file or hub.cert_file,
        settings.client_ca_file or hub.client_ca_file,
    )
    try:
        key, cert, authority = (Path(name).read_bytes() for name in files)
    except OSError as exc:
        raise ConfigError(SETTINGS, "values", f"{exc.filename}: {exc.strerror}") from exc
    return grpc.ssl_server_credentials([(key, cert)], authority, require_client_auth=True)
