"""One MQTT connection: aiomqtt for connecting and subscribing, the paho client under it for what is hot.

aiomqtt acknowledges a QoS 1 message when it arrives and awaits each publish on its own. Here a message is
acknowledged when its effect is durable, and publishes are pipelined, so both go to paho directly: `_client`
is the one private name used, and nothing outside this module sees MQTT types.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple, Protocol, cast
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from corekit.errors import SETTINGS, ConfigError, TransportError
from edgecore.eventbus.inbox import Inbound

# In flight to us before the broker queues, and then drops (mosquitto: after 1,000 more): a burst of some
# seconds, which waits in the inbox as about 10 MiB.
RECEIVE_MAXIMUM = 16384
# In flight from us: the least that any known broker allows (HiveMQ 10, mosquitto 20, EMQX 32).
SEND_WINDOW = 10
# A broker must not send what no payload limit will accept; above the limit, so that a sender gets its 400.
MAX_PACKET_BYTES = 2 << 20
# What the broker keeps for us while the agent restarts; longer ago, devices have reported again.
SESSION_EXPIRY_S = 3600
# Publishes waiting for the broker: about 4 MiB of twin results. More means that it does not keep up.
MAX_OUTGOING = 8192
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

    def put(self, message: Inbound) -> None:
        """Take one message; never waits."""


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
    """An open connection."""

    def __init__(self, client: aiomqtt.Client, handoff: _Handoff) -> None:
        self._handoff = handoff
        self._client, self._paho = client, client._client
        self._open = True
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._in_flight = 0
        self._paho.on_publish = (
            self._acknowledged
        )  # in place of aiomqtt's, which serves its publish()

    def acknowledge(self, message_id: int) -> None:
        """Send PUBACK, unless the connection is gone: then the broker sends the message again."""
        if self._open:
            self._paho.ack(message_id, 1)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Queue one QoS 1 message; False if the connection is gone or the broker does not keep up."""
        if not self._open or len(self._outgoing) >= MAX_OUTGOING:
            return False
        self._outgoing.append((topic, payload))
        self._send()
        return True

    def release(self) -> None:
        """Hand on what comes in, and what came in since the connection was made: answers can be given now."""
        self._handoff.release()

    def _send(self) -> None:
        while self._open and self._outgoing and self._in_flight < SEND_WINDOW:
            topic, payload = self._outgoing.popleft()
            self._in_flight += 1
            self._paho.publish(topic, payload, 1)

    def _acknowledged(self, *_args: object) -> None:
        self._in_flight -= 1
        self._send()

    async def wait_lost(self) -> None:
        """Return never; raise BrokerLostError once the connection ends."""
        with _translated():
            async for _ in self._client.messages:  # _Handoff yields nothing: this only waits
                pass

    def close(self) -> None:
        """Stop acknowledging and publishing."""
        self._open = False


@contextlib.asynccontextmanager
async def open_link(
    address: BrokerAddress, session: Session, topics: Sequence[str], inbox: Taker
) -> AsyncIterator[Link]:
    """Connect and subscribe; messages go to `inbox`.

    Raises:  BrokerLostError, and of it UnsupportedProtocolError if MQTT 5 was tried and refused.
    """
    handoff = _Handoff(inbox)
    client = _make_client(address, session, handoff)
    client._client.manual_ack_set(on=True)
    client._client.connect_timeout = CONNECT_TIMEOUT_S
    with _translated(), _closing(client):
        async with client:
            link = Link(client, handoff)
            handoff.link = link
            try:
                granted = await client.subscribe([(topic, 1) for topic in topics])
                _refuse_denied(topics, granted)
                yield link
            finally:
                link.close()


def _make_client(address: BrokerAddress, session: Session, handoff: _Handoff) -> aiomqtt.Client:
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
        # No window of paho's, which walks all that waits at every acknowledgement: Link keeps one.
        max_inflight_messages=0,
        logger=_quiet,
        queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", lambda maxsize: handoff),  # noqa: ARG005
    )


def _refuse_denied(topics: Sequence[str], granted: Sequence[object]) -> None:
    for topic, code in zip(topics, granted, strict=False):
        value = getattr(code, "value", code)
        if isinstance(value, int) and value >= 0x80:
            raise BrokerLostError(f"the broker refuses the subscription to {topic}")


class _Handoff(asyncio.Queue[aiomqtt.Message]):
    """The queue that aiomqtt asks for: passes each message on, and never has one to give back."""

    def __init__(self, inbox: Taker) -> None:
        super().__init__()
        self.link: Link | None = None
        self._inbox = inbox
        # A broker that knows us sends what it kept before it answers anything; at most RECEIVE_MAXIMUM of them.
        self._early: list[Inbound] | None = []

    def put_nowait(self, item: aiomqtt.Message) -> None:
        payload = item.payload if isinstance(item.payload, bytes) else bytes(item.payload or b"")
        message_id = item.mid if item.qos == 1 else 0
        message = Inbound(item.topic.value, payload, message_id, self.link)
        if self._early is not None:
            self._early.append(message)
        else:
            self._inbox.put(message)

    def release(self) -> None:
        """Hand on everything from now on, first what is held."""
        held, self._early = self._early or [], None
        for message in held:
            # What came in before the link was there can be acknowledged through it all the same.
            self._inbox.put(message if message.link else message._replace(link=self.link))

    async def get(self) -> aiomqtt.Message:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


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
