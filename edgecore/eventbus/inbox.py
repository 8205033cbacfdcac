"""What waits between the MQTT socket and the twins: bounded, and the bound is said out loud."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import NamedTuple, Protocol

from corekit.logs import RepeatedFault

logger = logging.getLogger(__name__)

# Twice what a conforming broker may have in flight to us (link.RECEIVE_MAXIMUM), so only QoS 0 can overflow.
MAX_MESSAGES = 32768
# 64 of the largest payloads that are served.
MAX_BYTES = 16 << 20


class Acknowledger(Protocol):
    """The connection a message came in on."""

    def acknowledge(self, message_id: int) -> None:
        """Tell the broker that this QoS 1 message is durable here; nothing if the connection is gone."""


class Inbound(NamedTuple):
    """One message for the node; `acknowledge()` it once its effect is durable."""

    topic: str
    payload: bytes
    message_id: int = 0  # 0: QoS 0, nobody waits
    link: Acknowledger | None = None

    def acknowledge(self) -> None:
        """Tell the broker, unless it does not wait or its connection is gone."""
        if self.link is not None and self.message_id:
            self.link.acknowledge(self.message_id)


class Arrived(NamedTuple):
    """What came in since the last call; `connected`: the broker is newly reached, so tell it everything."""

    messages: list[Inbound]
    connected: bool


class Inbox:
    """Messages in the order they came. Full: the newest is dropped, unacknowledged, counted, and said once."""

    def __init__(self) -> None:
        self.dropped_count = 0
        self._messages: deque[Inbound] = deque()
        self._bytes = 0
        self._connected = False
        self._filled = asyncio.Event()
        self._fault = RepeatedFault(logger, "mqtt inbox full, messages dropped")

    def put(self, message: Inbound) -> None:
        """Add one message, or drop it."""
        size = len(message.payload)
        if len(self._messages) >= MAX_MESSAGES or self._bytes + size > MAX_BYTES:
            self.dropped_count += 1
            self._fault.failed(f"{self.dropped_count} so far, newest on {message.topic[:200]}")
            return
        self._bytes += size
        self._messages.append(message)
        self._filled.set()

    def connected(self) -> None:
        """Note that the broker was reached; what an older connection left here cannot be acknowledged now."""
        self._connected = True
        self._filled.set()

    async def take(self, limit: int) -> Arrived:
        """Wait for something, then return up to `limit` messages."""
        await self._filled.wait()
        batch = [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]
        self._bytes -= sum(len(message.payload) for message in batch)
        connected, self._connected = self._connected, False
        if not self._messages:
            self._filled.clear()
            self._fault.cleared()
        return Arrived(batch, connected)
