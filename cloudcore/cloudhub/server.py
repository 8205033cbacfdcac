"""The gRPC side of cloudcore: one port, mutual TLS, a node is the name in its certificate."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError

from cloudcore.cloudhub.admission import Admission
from cloudcore.cloudhub.asks import NothingToAsk
from cloudcore.cloudhub.certificates import CertificateFiles
from cloudcore.cloudhub.counters import DOWN, KNOWN_CODES, UP, HubCounters
from cloudcore.cloudhub.fence import DatabaseFence
from cloudcore.cloudhub.link import NodeLink, Surroundings, end_code, expected_end
from cloudcore.cloudhub.registry import NodeRegistry
from cloudcore.cloudhub.samples import TakenBlocks
from cloudcore.identities import NODE_PREFIX
from cloudcore.samples import SampleFanout
from cloudcore.seams import (
    AskSink,
    NodeGate,
    NodeWatcher,
    NoWatcher,
    OpenGate,
    RecordSource,
    ReportSink,
    SampleSink,
    StreamRefusedError,
)
from cloudcore.settings import HubSettings
from corekit.bytestream import ByteStream
from corekit.errors import SETTINGS, ConfigError, EdgeError, TransportError
from corekit.keyfiles import warn_of_open_key
from corekit.lifecycle import forget_frames, leaf_exceptions
from corekit.looplag import LoopLag
from synccore.changes import ChangeIds
from synccore.cloud_session import CloudSession
from synccore.messages import MAX_FRAME_BYTES, CloudMessage, EdgeMessage, Lane
from synccore.pb import sync_pb2_grpc
from synccore.tunnels import UNAVAILABLE
from synccore.wire import cloud_to_wire, from_wire

logger = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + (64 << 10)
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
# Streams are told to end first; what has not ended by then is cut.
_STOP_GRACE_S = 1.0
# Silence is noticed this much of a heartbeat late at most.
TICKS_PER_HEARTBEAT = 8
# A storm is over in half a minute: gauges that are older than this do not show it.
GAUGES_S = 1.0
# One lives, one takes over from it; more is a broken or hostile node, and each costs memory before it said Hello.
MAX_STREAMS_PER_NODE = 4
# A node opens its call as soon as it has connected.
IDLE_CONNECTION_S = 60.0
# To a node that was thrown out while it was connected; afterwards its own back-off counts. Who was thrown out by
# mistake is back as soon.
REVOKED_RETRY_S = 10.0


class NodeGoneError(TransportError):
    """The edge ended the stream or the link broke."""


class _ServerStream:
    """`CloudStream` over a gRPC server call."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def end(self) -> None:
        """Let go of the call: its memory stays for as long as anybody has it."""
        self._context = None

    async def send(self, messages: Sequence[CloudMessage]) -> None:
        try:
            for message in messages:
                await self._context.write(cloud_to_wire(message))
        except (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as exc:
            raise NodeGoneError(f"stream broke: {exc}") from exc

    async def receive(self) -> EdgeMessage:
        try:
            message = await self._context.read()
        except (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as exc:
            raise NodeGoneError(f"stream broke: {exc}") from exc
        except DecodeError:
            message = None
        if message is _EOF:
            raise NodeGoneError("the edge ended the stream")
        decoded: EdgeMessage = from_wire(message)
        return decoded


class CloudHub:
    """Component: serves every node that dials with a node certificate."""

    name = "cloudhub"

    def __init__(
        self,
        settings: HubSettings,
        *,
        source: RecordSource,
        sink: ReportSink,
        counters: HubCounters,
        fence: DatabaseFence | None = None,
        samples: SampleSink | None = None,
        watcher: NodeWatcher | None = None,
        asks: AskSink | None = None,
        gate: NodeGate | None = None,
    ) -> None:
        self._settings, self._counters = settings, counters
        self._gate = gate or OpenGate()
        self._gate.on_change(self._close_revoked)
        # A dead predecessor is noticed within two heartbeats; asking sooner changes nothing.
        self._registry = NodeRegistry(retry_after_s=settings.heartbeat_s)
        change_ids = ChangeIds()
        self._surroundings = Surroundings(
            source=source,
            sink=sink,
            samples=samples or SampleFanout(),
            asks=asks or NothingToAsk(),
            taken=TakenBlocks(),
            registry=self._registry,
            fence=fence or DatabaseFence(),
            admission=Admission(settings.admit_per_s, settings.admit_burst),
            counters=counters,
            clock=time.monotonic,
            next_change_id=lambda: change_ids.next(int(time.time() * 1000)),
            watcher=watcher or NoWatcher(),
        )
        self._lag = LoopLag()
        self._links: dict[NodeLink, Any] = {}  # with the call of each
        self._streams: Counter[str] = Counter()
        self._server: Any = None

    async def __aenter__(self) -> Self:
        """Bind the port. Raises: ConfigError: it is taken, or a certificate file cannot be read."""
        _allow_descriptors()
        credentials = await asyncio.to_thread(_credentials, self._settings)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
                # Buffers of each connection. TLS records of 4 KiB instead of 16 cost a hundredth of the speed and
                # save 5 KiB a node; one stream with a dozen headers needs no tables to compress them.
                ("grpc.tsi.max_frame_size", 4096),
                # What a connection may cost before it is a node's: strangers are cut, and so is who opens no call.
                (
                    "grpc.server_handshake_timeout_ms",
                    round(self._settings.handshake_timeout_s * 1000),
                ),
                ("grpc.max_connection_idle_ms", round(IDLE_CONNECTION_S * 1000)),
                ("grpc.max_concurrent_streams", MAX_STREAMS_PER_NODE),
                ("grpc.http2.hpack_table_size.decoder", 0),
                ("grpc.http2.hpack_table_size.encoder", 0),
                (
                    "grpc.so_reuseport",
                    0,
                ),  # a second cloudcore on this port is a mistake, not a load balancer
            ]
        )
        sync_pb2_grpc.add_SyncServicer_to_server(_Servicer(self), self._server)  # type: ignore[no-untyped-call]
        try:
            self._server.add_secure_port(self._settings.address, credentials)
        except RuntimeError as exc:
            problem = f"{self._settings.address} cannot be bound: is another cloudcore running?"
            raise ConfigError(SETTINGS, "hub.address", problem) from exc
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Tell every node to come back, then end its stream."""
        self._registry.end_all("DRAINING", "cloudcore stops", 0.0)
        await self._server.stop(_STOP_GRACE_S)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._server.start()
        logger.info("cloudhub: serving on %s", self._settings.address)
        # Not wait_for_termination(): cancelling that one cancels the server's own shutdown too.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lag.run(), name="cloudhub_lag")
            group.create_task(self._keep_time(), name="cloudhub_time")
            group.create_task(self._keep_gauges(), name="cloudhub_gauges")

    async def open_stream(self, node: str, target: str) -> ByteStream:
        """Open a byte stream at `node`. Raises: StreamRefusedError, StreamBrokenError."""
        link = self._registry.stream(node)
        if link is None:
            raise StreamRefusedError(UNAVAILABLE, f"node {node!r} is not connected")
        return await link.open_stream(target)

    async def connect(self, context: Any) -> None:
        """Serve one stream until it ends."""
        node = _node_name(context)
        if node is None:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the client certificate's CN must be {NODE_PREFIX}<name>",
            )
            return
        # Now, as gRPC cannot end a stream any more whose first write was given up; and from the checks on nothing is
        # awaited until the link is known, so that none slips through between two of them.
        await context.send_initial_metadata(())
        if refusal := self._refusal(node, context):
            self._counters.ended("FORBIDDEN")
            logger.info("cloudhub: node refused: %s", refusal, extra={"node": node})
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
            return
        if self._streams[node] >= MAX_STREAMS_PER_NODE:
            reason = f"{MAX_STREAMS_PER_NODE} streams of this node are open"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
            return
        session = CloudSession(
            time.monotonic(),
            heartbeat_s=self._settings.heartbeat_s,
            window_frames=self._settings.window_frames,
            spread_s=self._spread_s,
            horizon=self._surroundings.source.horizon,
            was_late=self._lag.was_late,
        )
        stream = _ServerStream(context)
        link = NodeLink(node, stream, session, self._surroundings)
        self._links[link] = context
        self._streams[node] += 1
        try:
            await link.serve()
        except BaseExceptionGroup as group:
            reasons = leaf_exceptions(group)
            ended = [exc for exc in reasons if isinstance(exc, EdgeError)]
            if ended:
                self._note_end(node, ended)
            if len(ended) < len(reasons):
                raise  # a bug goes on to gRPC, which logs it and ends this stream only
            forget_frames(group)
        finally:
            stream.end()
            del self._links[link]
            self._streams[node] -= 1
            if not self._streams[node]:
                del self._streams[node]

    def _refusal(self, node: str, context: Any) -> str:
        shown = context.auth_context().get("x509_pem_cert", [])
        return self._gate.refusal(node, shown[0] if shown else b"")

    def _close_revoked(self) -> None:
        for link, context in list(self._links.items()):
            if refusal := self._refusal(link.node, context):
                link.end("FORBIDDEN", refusal, REVOKED_RETRY_S)

    def _spread_s(self) -> float:
        return self._surroundings.admission.spread_s(len(self._registry))

    async def _keep_time(self) -> None:
        while True:
            due_s = time.monotonic() + self._settings.heartbeat_s / TICKS_PER_HEARTBEAT
            await asyncio.sleep(self._settings.heartbeat_s / TICKS_PER_HEARTBEAT)
            now = time.monotonic()
            for link in list(self._links):
                link.tick(now, now - due_s)

    async def _keep_gauges(self) -> None:
        while True:
            self._gauge(time.monotonic())
            await asyncio.sleep(GAUGES_S)

    def _gauge(self, now: float) -> None:
        lags_s: dict[tuple[str, Lane], float] = {
            (way, lane): 0.0 for way in (UP, DOWN) for lane in Lane
        }
        for link in self._links:
            for which, lag_s in link.lags_s(now).items():
                lags_s[which] = max(lags_s[which], lag_s)
        waiting_count = self._surroundings.admission.waiting_count(now)
        self._counters.gauge(len(self._registry), waiting_count, lags_s)

    def _note_end(self, node: str, reasons: Sequence[BaseException]) -> None:
        """Say why a stream ended: what was said or broken explains a link that is lost with it."""
        coded = [exc for exc in reasons if not isinstance(exc, TransportError)]
        exc = (coded or reasons)[0]
        code = end_code(exc)
        self._counters.ended(code if code in KNOWN_CODES else "OTHER")
        level = logging.INFO if expected_end(exc) else logging.WARNING
        text = str(exc) if code in str(exc) else f"{code}: {exc}"
        logger.log(level, "cloudhub: node left: %s", text, extra={"node": node})


def _allow_descriptors() -> None:
    """Take all descriptors that the system allows: each node is one, and shells give 1,024 or 4,096 of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a system that says infinity and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Servicer(sync_pb2_grpc.SyncServicer):
    def __init__(self, hub: CloudHub) -> None:
        self._hub = hub

    async def Connect(self, _requests: Any, context: Any) -> None:  # noqa: N802 - the name is the proto's
        await self._hub.connect(context)


def _node_name(context: Any) -> str | None:
    names = context.auth_context().get("x509_common_name", [])
    if len(names) != 1:
        return None
    name = str(names[0].decode("utf-8", "replace"))
    return name.removeprefix(NODE_PREFIX) if name.startswith(NODE_PREFIX) else None


def _credentials(settings: HubSettings) -> grpc.ServerCredentials:
    warn_of_open_key(settings.key_file)
    files = CertificateFiles(settings)
    try:
        first = files.read()
    except OSError as exc:
        raise ConfigError(SETTINGS, "hub", f"{exc.filename}: {exc.strerror}") from exc
    # None from `renewed` means "as before", which grpc documents and its stubs do not know.
    return grpc.dynamic_ssl_server_credentials(
        first,
        files.renewed,  # type: ignore[arg-type]
        require_client_authentication=True,
    )
