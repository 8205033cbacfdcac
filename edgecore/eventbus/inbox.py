"""What waits between the MQTT socket and the twins: bounded, and the bound is said out loud."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from corekit.logs import RepeatedFault
from edgecore.eventbus.topics import source

logger = logging.getLogger(__name__)

# What may wait here: about 12 MiB, and far above where the connection stops reading.
MAX_MESSAGES = 32768
MAX_BYTES = 8 << 20
# From here on nothing more is read, until half of it is done: about 1.5 MiB of messages of one value, and 50
# milliseconds for everybody behind them in the connection.
CROWDED_MESSAGES, CROWDED_BYTES = 4096, 1 << 20

# Of one device: what it may have waiting before its updates are merged, newest wins. One batch of twins takes half.
MAX_OF_SOURCE = 1024


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
    stands_for: tuple[Inbound, ...] = ()  # older ones whose effect is in this one

    def acknowledge(self) -> None:
        """Tell the broker, unless it does not wait or its connection is gone."""
        for older in self.stands_for:
            older.acknowledge()
        if self.link is not None and self.message_id:
            self.link.acknowledge(self.message_id)


class Arrived(NamedTuple):
    """What came in since the last call; `connected`: the broker is newly reached, so tell it everything."""

    messages: list[Inbound]
    connected: bool


class Inbox:
    """Messages by the device they come from, shared out in turn: a flood of one does not delay the others.

    A device that floods has its updates merged (`coalesce`), newest wins; what cannot be merged and is too much loses
    its oldest. Full as a whole: the newest is dropped, unacknowledged. All of it is counted, and said once.
    """

    def __init__(
        self,
        coalesce: Callable[[Sequence[Inbound]], list[Inbound]] = list,
        *,
        max_of_source: int = MAX_OF_SOURCE,
    ) -> None:
        self._max_of_source = max_of_source
        self.dropped_count = 0
        self.coalesced_count = 0
        self._coalesce = coalesce
        self._sources: dict[str, deque[Inbound]] = {}  # in the order of whose turn it is
        self._count = self._bytes = 0
        self._connected = False
        self._go_on: Callable[[], None] = lambda: None
        self._filled = asyncio.Event()
        self._fault = RepeatedFault(logger, "mqtt inbox full, messages dropped")
        self._flood = RepeatedFault(logger, "a device floods, its messages are merged or dropped")

    def put_all(self, messages: Sequence[Inbound]) -> None:
        """Add messages, as `put`."""
        for message in messages:
            self.put(message)

    @property
    def crowded(self) -> bool:
        """Whether the sender should wait until `on_room` tells it to go on."""
        return self._count >= CROWDED_MESSAGES or self._bytes >= CROWDED_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Payloads that nobody has taken yet."""
        return self._bytes

    def on_room(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when the inbox is half empty after it was crowded."""
        self._go_on = go_on

    def put(self, message: Inbound) -> None:
        """Add one message, or drop it."""
        size = len(message.payload)
        if self._count >= MAX_MESSAGES or self._bytes + size > MAX_BYTES:
            self.dropped_count += 1
            self._fault.failed(f"{self.dropped_count} so far, newest on {message.topic[:200]}")
            return
        name = source(message.topic)
        queue = self._sources.get(name)
        if queue is None:
            queue = self._sources[name] = deque()
        queue.append(message)
        self._count += 1
        self._bytes += size
        if len(queue) > self._max_of_source:
            self._thin(name, queue)
        self._filled.set()

    def connected(self) -> None:
        """Note that the broker was reached; what an older connection left here cannot be acknowledged now."""
        self._connected = True
        self._filled.set()

    async def take(self, limit: int, most_bytes: int = MAX_BYTES) -> Arrived:
        """Wait for something, then return messages: each device's in order, the devices in turn.

        Shapes:  at most `limit`; none after the one whose payload makes it `most_bytes` together, or more.
        """
        await self._filled.wait()
        batch: list[Inbound] = []
        room, room_bytes = limit, most_bytes
        while self._sources and room > 0 and room_bytes > 0:
            # A share each: whole turns of one message would cost a dictionary move per message.
            share = max(1, room // len(self._sources))
            for name in list(self._sources)[:room]:
                queue = self._sources.pop(name)
                taken, taken_bytes = _take(queue, share, room_bytes)
                if queue:
                    self._sources[name] = queue  # to the end
                batch += taken
                room_bytes -= taken_bytes
                if room_bytes <= 0:
                    break
            room = limit - len(batch)
        self._count -= len(batch)
        self._bytes -= most_bytes - room_bytes
        if self._count <= CROWDED_MESSAGES // 2 and self._bytes <= CROWDED_BYTES // 2:
            self._go_on()
        connected, self._connected = self._connected, False
        if not self._sources:
            self._filled.clear()
            self._fault.cleared()
            self._flood.cleared()
        return Arrived(batch, connected)

    def _thin(self, name: str, queue: deque[Inbound]) -> None:
        kept = self._coalesce(queue)
        merged = len(queue) - len(kept)
        self.coalesced_count += merged
        # Not below half at once: merging again at every message would make a flood of work out of one of messages.
        lost = kept[: max(0, len(kept) - MAX_OF_SOURCE // 2)] if merged < MAX_OF_SOURCE // 2 else []
        for message in lost:
            self.dropped_count += 1
            message.acknowledge()  # or the broker, waiting for it, would hold back everybody's
        self._count += len(kept) - len(lost) - len(queue)
        self._bytes -= sum(len(m.payload) for m in queue)
        queue.clear()
        queue.extend(kept[len(lost) :])
        self._bytes += sum(len(m.payload) for m in queue)
        said = f"{name[:200]}: {self.coalesced_count} merged, {self.dropped_count} dropped so far"
        self._flood.failed(said)


def _take(queue: deque[Inbound], share: int, most_bytes: int) -> tuple[list[Inbound], int]:
    """Take messages from a queue; return them and their bytes."""
    taken: list[Inbound] = []
    taken_bytes = 0
    while queue and len(taken) < share and taken_bytes < most_bytes:
        message = queue.popleft()
        taken.append(message)
        taken_bytes += len(message.payload)
    return taken, taken_bytes
