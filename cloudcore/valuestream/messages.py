"""Messages that programs at the edge upload on free MQTT topics: to a broker of the operator's, and to who listens.

With a broker a message is acknowledged to its node once that broker has it; without one, once everybody who listens now
was given it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import msgspec

from cloudcore import metrics
from cloudcore.settings import MqttSinkSettings
from corekit.backoff import Backoff
from corekit.errors import SETTINGS, ConfigError, EdgeError
from corekit.logs import RepeatedFault
from synccore.messages import Delta, Op
from synccore.pb import values_pb2

if TYPE_CHECKING:
    import aiomqtt

logger = logging.getLogger(__name__)

KIND = "Message"
# Messages that wait for one listener, 256 KiB each at most. Full: the oldest goes, and the listener is told how many.
MAX_WAITING = 256
MAX_BATCH_BYTES = 1 << 20  # of gRPC's 4 MiB
# Publishes under way at a time: each node has two writes of this kind under way.
MAX_CONCURRENT = 64
BACKOFF_S = (0.5, 30.0)


class NodeMessage(NamedTuple):
    """One message. Units: time_ms: Unix milliseconds, the node's."""

    node: str
    topic: str
    time_ms: int
    payload: bytes


class RefusedMessageError(EdgeError):
    """A report that is no message."""


class _Body(msgspec.Struct, rename="camel"):
    topic: str
    time_ms: int
    payload: str = ""
    payload_base64: str = ""


_decoder = msgspec.json.Decoder(_Body)


def decode_message(node: str, delta: Delta) -> NodeMessage:
    """Return the message of a report. Raises: RefusedMessageError."""
    if delta.op is not Op.APPEND:
        raise RefusedMessageError(f"{delta.op.name} of a message has no meaning")
    try:
        body = _decoder.decode(delta.body)
        payload = body.payload.encode() or base64.b64decode(body.payload_base64, validate=True)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, binascii.Error) as exc:
        raise RefusedMessageError(f"is not a message: {exc}") from exc
    topic = body.topic
    if not topic or any(sign in topic for sign in "+#\0"):
        raise RefusedMessageError(f"{topic[:80]!r} is not a topic that can be published to")
    return NodeMessage(node, topic, body.time_ms, payload)


class Listener:
    """One reader of messages; what waits for it is bounded. Shapes: nodes: none means all."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._nodes = frozenset(nodes)
        self._waiting: deque[NodeMessage] = deque()
        self._missed = 0
        self._filled = asyncio.Event()

    def put(self, message: NodeMessage) -> None:
        """Keep a message until the listener has it; never waits."""
        if self._nodes and message.node not in self._nodes:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(message)
        self._filled.set()

    async def batch(self) -> values_pb2.MessageBatch:
        """Wait for messages; return some that came in."""
        await self._filled.wait()
        made = values_pb2.MessageBatch(missed=self._missed)
        self._missed = size = 0
        while self._waiting and size < MAX_BATCH_BYTES:
            message = self._waiting.popleft()
            size += len(message.payload)
            made.messages.add(**message._asdict())
        if not self._waiting:
            self._filled.clear()
        return made


class MessageHub:
    """`ReportSink` of kind Message."""

    KIND = KIND

    def __init__(self, broker: MessageBroker | None = None) -> None:
        self._broker = broker
        self._listeners: list[Listener] = []
        # First come, first handed on; weak: a lock lives as long as somebody holds or awaits it.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unheard = RepeatedFault(
            logger, "messages of nodes go nowhere: mqtt_sink.url is empty and nobody listens"
        )
        self._refused = RepeatedFault(logger, "message of a node dropped")

    def subscribe(self, listener: Listener) -> None:
        """Hand `listener` every message from now on."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Hand it no more."""
        self._listeners.remove(listener)

    async def write(self, node: str, delta: Delta) -> None:
        """Return when the message is handed on, or never can be (said in the log)."""
        try:
            message = decode_message(node, delta)
        except RefusedMessageError as exc:
            metrics.reports.labels(KIND, "refused").inc()
            self._refused.failed(f"{node}: {exc}")
            return
        for listener in self._listeners:
            listener.put(message)
        if self._broker is not None:
            turn = self._turns.setdefault(node, asyncio.Lock())
            async with turn:
                await self._broker.publish(message)
        elif not self._listeners:
            metrics.reports.labels(KIND, "dropped").inc()
            self._unheard.failed(f"{node}: {message.topic[:200]}")
            return
        metrics.reports.labels(KIND, "written").inc()


class MessageBroker:
    """Component: publishes messages at QoS 1 as `mqtt_sink.messages_prefix`/<node>/<topic>."""

    name = "message-broker"

    def __init__(self, settings: MqttSinkSettings) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            wrong = f"{parts.scheme}://{parts.hostname or ''} is not mqtt[s]://[user:password@]host"
            raise ConfigError(SETTINGS, "mqtt_sink.url", wrong)
        self._parts, self._prefix = parts, settings.messages_prefix.strip("/")
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._fault = RepeatedFault(logger, f"messages to mqtt broker {parts.hostname}")

    async def __aenter__(self) -> Self:
        """Take nothing: a cloudcore starts without that broker."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing; what was not published stays unacknowledged at its node."""

    async def publish(self, message: NodeMessage) -> None:
        """Return when the broker has acknowledged it; waits for a broker that is away."""
        from aiomqtt import MqttError

        topic = f"{self._prefix}/{message.node}/{message.topic}"
        while True:
            await self._connected.wait()
            assert self._client is not None
            try:
                await self._client.publish(topic, message.payload, qos=1)
            except MqttError as exc:
                self._fault.failed(f"{exc}; trying again")
                await asyncio.sleep(BACKOFF_S[0])
            else:
                return

    async def run(self) -> None:
        """Stay connected until cancelled."""
        from aiomqtt import MqttError  # late: most clouds have no such broker

        backoff = Backoff(*BACKOFF_S)
        while True:
            try:
                async with self._open() as client:
                    self._client = client
                    self._connected.set()
                    self._fault.cleared()
                    backoff.reset()
                    async for _ in client.messages:  # none were asked for: this waits for the end
                        pass
            except MqttError as exc:
                self._fault.failed(f"{exc}; trying again")
            finally:
                self._connected.clear()
            await asyncio.sleep(backoff.next_delay_s())

    def _open(self) -> aiomqtt.Client:
        import aiomqtt

        parts, secure = self._parts, self._parts.scheme == "mqtts"
        return aiomqtt.Client(
            parts.hostname or "",
            parts.port or (8883 if secure else 1883),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls_params=aiomqtt.TLSParameters() if secure else None,
            max_concurrent_outgoing_calls=MAX_CONCURRENT,
        )
