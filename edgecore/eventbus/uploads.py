"""The component that takes free messages up: `$hw/events/upload/#`, `SYS/dis/upload_records`, `+/user/#`.

A message is an entry of the outbox: it is acknowledged to who published it once it is on the disk, and it leaves the
disk when cloudcore has handed it on. Bounded and thinned like all entries (`store.outbox_*`), and counted if lost.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol, Self

import msgspec

from corekit.backoff import Backoff
from corekit.errors import StoreError
from corekit.logs import RepeatedFault
from edgecore.eventbus.inbox import Inbound
from edgecore.eventbus.payloads import MAX_PAYLOAD_BYTES
from edgecore.records import Commit, Report
from synccore.messages import MAX_TEXT_BYTES, Lane, ObjectKey, Op

logger = logging.getLogger(__name__)

KIND = "Message"
# One commit carries what came in meanwhile, as with twins.
BATCH_WINDOW_S = 0.05
BATCH_LIMIT = 512
BACKOFF_S = (0.1, 5.0)


class UploadBus(Protocol):
    """The MQTT side, as seen from here."""

    async def receive_uploads(self, limit: int = ...) -> list[Inbound]:
        """Wait for messages that go up; return up to `limit`."""


class CommitStore(Protocol):
    """What is needed of metamanager."""

    async def commit(self, commit: Commit) -> None:
        """Return once durable. Raises: StoreError."""


class Uploads:
    """Keeps what is uploaded until the cloud has it."""

    name = "uploads"

    def __init__(
        self, store: CommitStore, bus: UploadBus, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._bus, self._clock = store, bus, clock
        self._backoff = Backoff(*BACKOFF_S)
        self._fault = RepeatedFault(logger, "uploaded messages cannot be stored")
        self._refused = RepeatedFault(logger, "an uploaded message is dropped")
        self.refused_count = 0

    async def __aenter__(self) -> Self:
        """Take nothing."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing: what was acknowledged is stored."""

    async def run(self) -> None:
        """Store until cancelled."""
        while True:
            messages = await self._bus.receive_uploads(BATCH_LIMIT)
            await self._keep(messages)
            if len(messages) < BATCH_LIMIT:
                await asyncio.sleep(BATCH_WINDOW_S)

    async def _keep(self, messages: list[Inbound]) -> None:
        reports = list(self._reports(messages))
        while reports:
            try:
                await self._store.commit(Commit(reports=reports))
            except StoreError as exc:
                self._fault.failed(exc)
                await asyncio.sleep(self._backoff.next_delay_s())
            else:
                self._fault.cleared()
                self._backoff.reset()
                break
        for message in messages:  # refused ones too, or they would come again for ever
            message.acknowledge()

    def _reports(self, messages: Iterable[Inbound]) -> Iterable[Report]:
        now_ms = int(self._clock() * 1000)
        for message in messages:
            if problem := _problem(message):
                self.refused_count += 1
                self._refused.failed(
                    f"{message.topic[:200]}: {problem}; {self.refused_count} so far"
                )
            else:
                key = ObjectKey(KIND, "", message.topic)
                body = encode_message(message.topic, message.payload, now_ms)
                yield Report(key, "", body, Lane.SAMPLES, Op.APPEND)


def encode_message(topic: str, payload: bytes, now_ms: int) -> bytes:
    """Return the body of a Message report (docs/protocol.md, section 5)."""
    said: dict[str, object] = {"topic": topic, "timeMs": now_ms}
    try:
        said["payload"] = payload.decode()
    except UnicodeDecodeError:
        said["payloadBase64"] = base64.b64encode(payload).decode()
    return msgspec.json.encode(said)


def _problem(message: Inbound) -> str:
    if (size := len(message.payload)) > MAX_PAYLOAD_BYTES:
        return f"payload of {size} bytes is more than the limit of {MAX_PAYLOAD_BYTES}"
    if (size := len(message.topic.encode())) > MAX_TEXT_BYTES:
        return f"topic of {size} bytes is more than the limit of {MAX_TEXT_BYTES}"
    return ""
