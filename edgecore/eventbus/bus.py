"""The component that keeps one connection to the MQTT broker open, as long as there is a broker."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Self

from corekit.backoff import Backoff
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from edgecore.eventbus import topics
from edgecore.eventbus.access import AGENT
from edgecore.eventbus.coalescing import coalesce
from edgecore.eventbus.inbox import MAX_BYTES, MAX_MESSAGES, Arrived, Inbound, Inbox
from edgecore.eventbus.link import (
    BrokerAddress,
    BrokerLostError,
    Link,
    Session,
    UnsupportedProtocolError,
    open_link,
    parse_url,
)
from edgecore.settings import BrokerSettings

logger = logging.getLogger(__name__)

BACKOFF_MIN_S = 0.1
# How the agent proves itself to its own broker, which lives in the same process and nowhere else.
_AGENT_SECRET = secrets.token_urlsafe(16)


class EventBus:
    """Messages of devices in, in batches; messages to devices out, at once.

    Publishing never waits: without a broker it returns False, and who has something to say says it again
    after `receive()` has told of a new connection.
    """

    name = "eventbus"

    def __init__(self, settings: BrokerSettings, node_name: str) -> None:
        self._address = broker_address(settings)
        self._embedded = settings.url == "embedded"
        self._session = Session(f"armadillo-{node_name}", modern=not self._embedded)
        self._topics = topics.subscriptions(node_name)
        self._inbox = Inbox(coalesce)
        # Of these every one counts: none is merged, and no topic has a share of its own.
        self._uploads = Inbox(max_of_source=MAX_MESSAGES)
        self._sorter = _Sorter(self._inbox, self._uploads)
        self._link: Link | None = None
        self._backoff = Backoff(BACKOFF_MIN_S, settings.reconnect_max_s)
        self._fault = RepeatedFault(logger, f"mqtt broker {_spoken(self._address)}")
        self._slow = RepeatedFault(logger, "mqtt broker does not keep up, a message was dropped")

    async def __aenter__(self) -> Self:
        """Take nothing: an edge node starts without its broker."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing: `run()` closes the connection it opened."""

    @property
    def coalesced_count(self) -> int:
        """Messages of flooding devices that were merged into newer ones."""
        return self._inbox.coalesced_count

    @property
    def waiting_bytes(self) -> int:
        """Payloads that nobody has taken yet."""
        return self._inbox.waiting_bytes + self._uploads.waiting_bytes

    @property
    def connected(self) -> bool:
        """Whether the broker is reached now."""
        return self._link is not None

    async def receive(self, limit: int = 1024, most_bytes: int = MAX_BYTES) -> Arrived:
        """Wait for messages, or for a new connection; return up to `limit` messages, of about `most_bytes`."""
        return await self._inbox.take(limit, most_bytes)

    async def receive_uploads(self, limit: int = 512) -> list[Inbound]:
        """Wait for messages that go to the cloud as they are; return up to `limit`."""
        return (await self._uploads.take(limit)).messages

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send one message at QoS 1; False if it was not taken and will not be sent."""
        if self._link is None:
            return False
        if not self._link.publish(topic, payload):
            self._slow.failed(topic)
            return False
        return True

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                async with open_link(
                    self._address, self._session, self._topics, self._sorter
                ) as link:
                    await self._serve(link)
            except BrokerLostError as exc:
                if isinstance(exc, UnsupportedProtocolError):
                    self._change_protocol()
                delay_s = self._backoff.next_delay_s()
                self._fault.failed(f"{exc}; trying again")
                await asyncio.sleep(delay_s)

    def _change_protocol(self) -> None:
        """Try MQTT 3.1.1 instead of 5, or, if the broker was only slow to answer, 5 again."""
        if not self._embedded:
            self._session = self._session._replace(modern=not self._session.modern)

    async def _serve(self, link: Link) -> None:
        self._backoff.reset()
        self._fault.cleared()
        logger.info("mqtt broker %s: connected", _spoken(self._address))
        self._link = link
        self._slow.cleared()
        self._inbox.connected()
        link.release()
        try:
            await link.wait_lost()
        finally:
            self._link = None


class _Sorter:
    """The connection's `Taker`: what goes to the cloud as it is into one inbox, everything else into the other."""

    def __init__(self, inbox: Inbox, uploads: Inbox) -> None:
        self._inbox, self._uploads = inbox, uploads

    @property
    def crowded(self) -> bool:
        """Whether either is."""
        return self._inbox.crowded or self._uploads.crowded

    def put_all(self, messages: Sequence[Inbound]) -> None:
        """Take messages."""
        uploads = [message for message in messages if topics.is_upload(message.topic)]
        if not uploads:
            self._inbox.put_all(messages)
            return
        self._uploads.put_all(uploads)
        self._inbox.put_all([m for m in messages if not topics.is_upload(m.topic)])

    def on_room(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when one has room again and the other is not crowded."""

        def look() -> None:
            if not self.crowded:
                go_on()

        self._inbox.on_room(look)
        self._uploads.on_room(look)


def broker_address(settings: BrokerSettings) -> BrokerAddress:
    """Return where the broker of these settings is. Raises: ConfigError."""
    if settings.url != "embedded":
        return parse_url(settings.url)
    host, _, port = settings.embedded_address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(
            SETTINGS, "broker.embedded_address", f"{settings.embedded_address!r} is not host:port"
        )
    if settings.password_file:
        return BrokerAddress(host.strip("[]"), int(port), AGENT, _AGENT_SECRET)
    return BrokerAddress(host.strip("[]"), int(port))


def _spoken(address: BrokerAddress) -> str:
    return f"{address.host}:{address.port}"
