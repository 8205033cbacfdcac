"""One MQTT connection: aiomqtt for connecting, subscribing and pings; messages and acknowledgements pass it by.

A message is acknowledged when its effect is durable, publishes are pipelined, and both at rates that need the compiled
codec. So the paho client under aiomqtt gets a socket of ours (`wire.py`), by two private names, `_client` and
`_create_socket`; `tests/integration/test_mqtt_brokers.py` is what says that newer ones still use it. Nothing outside
this module and that one sees MQTT types.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple, Never, Protocol, cast
from urllib.parse import unquote, urlsplit

import aiomqtt
import paho.mqtt.client as mqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from corekit.errors import SETTINGS, ConfigError, TransportError
from edgecore.eventbus.inbox import MAX_MESSAGES, Inbound
from edgecore.eventbus.packet_rules import MAX_PACKET_ID
from edgecore.eventbus.packets import encode_acks, encode_publishes
from edgecore.eventbus.wire import MAX_PACKET_BYTES, Wire

# In flight to us before the broker queues, and then drops (mosquitto: after 1,000 more): a burst of a second.
# In flight from us as much, if the broker allows it: its acknowledgement of an answer comes behind all that.
RECEIVE_MAXIMUM = 16384
# In flight from us to a broker that does not say: the least that any known one allows (HiveMQ 10, mosquitto 20, EMQX 32).
SEND_WINDOW = 10
# What the broker keeps for us while the agent restarts; longer ago, devices have reported again.
SESSION_EXPIRY_S = 3600
# Publishes waiting for the broker: about 2 MiB of twin results. More means that it does not keep up.
MAX_OUTGOING, MAX_OUTGOING_BYTES = 8192, 8 << 20
# In one system call; what the kernel does not take of it is held twice for a moment.
SEND_MESSAGES, SEND_BYTES = 512, 128 << 10
# Of at most four bytes each: what the protocol can carry. A topic that long is no device's.
MAX_TOPIC_CHARS = 16_383
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
_UNSUPPORTED_PROTOCOL = 132
_NO_ANSWER = "Operation timed out"  # aiomqtt's words; it has no type for it

# paho's and aiomqtt's own lines repeat per message; what matters is said here and in bus.py.
_quiet = logging.getLogger(f"{__name__}.aiomqtt")
_quiet.setLevel(logging.CRITICAL)


class BrokerLostError(TransportError):
    """The broker is not there, refused us, or the connection to it ended."""


class BrokerAddress(NamedTuple):
    """Where a broker is, and as whom to connect."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None


class Taker(Protocol):
    """Who gets what comes in."""

    @property
    def crowded(self) -> bool:
        """Whether nothing more should be read until `on_room` tells."""

    def put_all(self, messages: Sequence[Inbound]) -> None:
        """Take messages; never waits."""

    def on_room(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when there is room again."""


class Session(NamedTuple):
    """How to connect: MQTT 5 lets us bound what is in flight; MQTT 3.1.1 is for brokers without it."""

    client_id: str
    modern: bool


def parse_url(url: str) -> BrokerAddress:
    """Return the broker behind `mqtt://[user:password@]host:port`. Raises: ConfigError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigError(SETTINGS, "broker.url", str(exc)) from exc
    if parts.scheme != "mqtt" or not host or parts.path not in ("", "/"):
        problem = "is neither `embedded` nor mqtt://[user:password@]host:port"
        raise ConfigError(SETTINGS, "broker.url", problem)
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return BrokerAddress(host, port or 1883, user, password)


class UnsupportedProtocolError(BrokerLostError):
    """The broker does not speak MQTT 5, or did not answer, as amqtt does when it misreads an MQTT 5 greeting."""


class Link:
    """An open connection: what it gets goes to the inbox, and what is to be sent goes out once for each turn of the loop."""

    def __init__(self, inbox: Taker, session: Session) -> None:
        self._inbox, self._modern = inbox, session.modern
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self.messages: AsyncIterator[aiomqtt.Message] | None = (
            None  # aiomqtt's, once it is connected
        )
        self._window, self._in_flight, self._packet_id = SEND_WINDOW, 0, 0
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._outgoing_bytes = 0
        self._unacknowledged: list[int] = []
        self._open, self._due = True, False
        # A broker that knows us sends what it kept before it answers anything: of QoS 1 at most RECEIVE_MAXIMUM.
        self._early: list[Inbound] | None = []
        self._problem = ""
        self._ended = asyncio.Event()

    def acknowledge(self, message_id: int) -> None:
        """Send PUBACK, unless the connection is gone: then the broker sends the message again."""
        if self._open:
            self._unacknowledged.append(message_id)
            self._send_soon()

    def publish(self, topic: str, payload: bytes) -> bool:
        """Queue one QoS 1 message; False if the connection is gone or the broker does not keep up."""
        waiting_bytes = self._outgoing_bytes + len(payload)
        if not self._open or len(self._outgoing) >= MAX_OUTGOING:
            return False
        if waiting_bytes > MAX_OUTGOING_BYTES or len(topic) > MAX_TOPIC_CHARS:
            return False
        self._outgoing.append((topic, payload))
        self._outgoing_bytes = waiting_bytes
        self._send_soon()
        return True

    def release(self) -> None:
        """Hand on what comes in, and what came in since the connection was made: answers can be given now."""
        held, self._early = self._early or [], None
        self._hand_on(held)

    async def wait_lost(self) -> None:
        """Return never; raise BrokerLostError once the connection ends."""
        assert self.messages is not None
        async for _ in self.messages:  # there are none: this only waits
            pass

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Say what the broker sent, rather than what the library made of it."""
        try:
            yield
        except BrokerLostError as exc:
            if not self._problem:
                raise
            raise BrokerLostError(self._problem) from exc

    async def wait_broken(self) -> Never:
        """Raise BrokerLostError once the broker sends what cannot be read."""
        await self._ended.wait()
        raise BrokerLostError(self._problem)

    def close(self) -> None:
        """Send what is still to be sent, if it can be; then stop acknowledging and publishing."""
        self._send()
        self._open = False
        self._inbox.on_room(lambda: None)

    def attach(self, sock: socket.socket) -> Wire:
        """Return the socket through which the library and this link reach the broker; called on any thread."""
        self._wire = Wire(sock, self, self._loop, modern=self._modern)
        return self._wire

    def begin(self, library_reads: Callable[[], object]) -> None:
        """Read from now on."""
        if self._wire is not None:
            self._wire.start(library_reads)
            self._inbox.on_room(self._wire.resume)

    def greeted(self, properties: object) -> None:
        """Take how many messages the broker wants in flight to it; one of MQTT 3.1.1 does not say."""
        if self._modern:
            self._window = min(
                getattr(properties, "ReceiveMaximum", MAX_PACKET_ID), RECEIVE_MAXIMUM
            )

    # What the wire calls.

    def received(self, publishes: Sequence[tuple[str, bytes, int]]) -> None:
        """Take messages in."""
        messages = [Inbound(topic, payload, mid, self) for topic, payload, mid in publishes]
        if self._early is not None:
            self._early += messages[: MAX_MESSAGES - len(self._early)]
        else:
            self._hand_on(messages)

    def answered(self, count: int) -> None:
        """Make room in the window."""
        self._in_flight = max(0, self._in_flight - count)
        if self._outgoing:
            self._send_soon()

    def writable(self) -> None:
        """Send what came up meanwhile."""
        self._send_soon()

    def broken(self, problem: str) -> None:
        """End the connection."""
        self._problem = self._problem or problem
        self._ended.set()

    def _hand_on(self, messages: list[Inbound]) -> None:
        self._inbox.put_all(messages)
        if self._inbox.crowded and self._wire is not None:
            self._wire.pause()

    def _send_soon(self) -> None:
        # Once for all that one batch of twins has to say: a system call and a call of the codec each cost as much
        # as ten messages.
        if not self._due:
            self._due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._due = False
        if not self._open or self._wire is None or self._wire.blocked:
            return
        messages = self._next_messages()
        packets = encode_publishes(messages, self._packet_ids(len(messages)), modern=self._modern)
        if self._unacknowledged:
            packets += encode_acks(self._unacknowledged)
            self._unacknowledged.clear()
        try:
            self._wire.write(packets)
        except OSError as exc:
            self.broken(str(exc))
        if self._outgoing and self._in_flight < self._window:
            self._send_soon()

    def _next_messages(self) -> list[tuple[str, bytes]]:
        messages: list[tuple[str, bytes]] = []
        payload_bytes, room = 0, min(self._window - self._in_flight, SEND_MESSAGES)
        while self._outgoing and len(messages) < room and payload_bytes < SEND_BYTES:
            message = self._outgoing.popleft()
            messages.append(message)
            payload_bytes += len(message[1])
        self._outgoing_bytes -= payload_bytes
        self._in_flight += len(messages)
        return messages

    def _packet_ids(self, count: int) -> list[int]:
        first = self._packet_id
        self._packet_id = (first + count) % MAX_PACKET_ID
        return [(first + place) % MAX_PACKET_ID + 1 for place in range(count)]


@contextlib.asynccontextmanager
async def open_link(
    address: BrokerAddress, session: Session, topics: Sequence[str], inbox: Taker
) -> AsyncIterator[Link]:
    """Connect and subscribe; messages go to `inbox`.

    Raises:  BrokerLostError, and of it UnsupportedProtocolError if MQTT 5 was tried and refused.
    """
    link = Link(inbox, session)
    client = _make_client(address, session, link)
    _take_over(client._client, link)
    client._client.connect_timeout = CONNECT_TIMEOUT_S
    with link.explaining(), _translated(), _closing(client):
        async with client:
            try:
                granted = await client.subscribe([(topic, 1) for topic in topics])
                _refuse_denied(topics, granted)
                link.messages = client.messages
                yield link
            finally:
                link.close()


def _make_client(address: BrokerAddress, session: Session, link: Link) -> aiomqtt.Client:
    properties = None
    if session.modern:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
    return aiomqtt.Client(
        address.host,
        address.port,
        username=address.user,
        password=address.password,
        identifier=session.client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if session.modern else aiomqtt.ProtocolVersion.V311,
        # The broker keeps our subscriptions and unacknowledged messages while we are away.
        clean_start=False if session.modern else MQTT_CLEAN_START_FIRST_ONLY,
        clean_session=None if session.modern else False,
        properties=properties,
        keepalive=KEEPALIVE_S,
        timeout=CONNECT_TIMEOUT_S,
        logger=_quiet,
        queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: _NoMessages(link)),  # noqa: ARG005
    )


def _refuse_denied(topics: Sequence[str], granted: Sequence[object]) -> None:
    for topic, code in zip(topics, granted, strict=False):
        value = getattr(code, "value", code)
        if isinstance(value, int) and value >= 0x80:
            raise BrokerLostError(f"the broker refuses the subscription to {topic}")


def _take_over(paho: mqtt.Client, link: Link) -> None:
    """Put the link's socket between paho and the broker, and reading and writing into its hands."""
    connect, opened, connected = paho._create_socket, paho.on_socket_open, paho.on_connect
    loop = asyncio.get_running_loop()

    def on_socket_open(client: mqtt.Client, userdata: Any, sock: Any) -> None:
        opened(client, userdata, sock)  # type: ignore[misc] # aiomqtt's: its reader, and its task for pings
        loop.call_soon_threadsafe(link.begin, client.loop_read)  # and ours in place of its reader

    def on_connect(*arguments: Any) -> None:
        link.greeted(arguments[-1])
        connected(*arguments)  # type: ignore[misc]

    def on_register_write(client: mqtt.Client, *_: Any) -> None:
        # Nothing that is sent through the link has to wait, so paho never needs to be told of room.
        loop.call_soon_threadsafe(client.loop_write)

    paho._create_socket = lambda: link.attach(connect())  # type: ignore[method-assign,arg-type]
    paho.on_socket_open, paho.on_connect = on_socket_open, on_connect
    paho.on_socket_register_write = on_register_write
    paho.on_socket_unregister_write = None


class _NoMessages(asyncio.Queue[aiomqtt.Message]):
    """The queue that aiomqtt asks for: it gets no messages, and who waits for one waits for the end."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    async def get(self) -> aiomqtt.Message:
        await self._link.wait_broken()


@contextlib.contextmanager
def _closing(client: aiomqtt.Client) -> Iterator[None]:
    """Close what aiomqtt leaves open when the broker does not answer: a socket, its reader and a task."""
    try:
        yield
    except aiomqtt.MqttError:
        client._client.disconnect()
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except aiomqtt.MqttCodeError as exc:
        if getattr(exc.rc, "value", exc.rc) == _UNSUPPORTED_PROTOCOL:
            raise UnsupportedProtocolError(str(exc)) from exc
        raise BrokerLostError(str(exc)) from exc
    except (aiomqtt.MqttError, OSError) as exc:
        if str(exc) == _NO_ANSWER:
            raise UnsupportedProtocolError("no answer") from exc
        raise BrokerLostError(str(exc) or type(exc).__name__) from exc
