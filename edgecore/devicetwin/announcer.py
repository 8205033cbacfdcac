"""What is published of twins: documents of changes, deltas that a device has to take, members of the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from devicemodels.objects import DeviceModel
from devicemodels.twin import Change, Twin, unsynced
from edgecore.devicetwin.roster import Roster
from edgecore.eventbus import payloads, topics
from edgecore.eventbus.inbox import Arrived

# A device that answers a delta with the wrong value must not make a loop of the two.
DELTA_REPEAT_S = 1.0


class Bus(Protocol):
    """The MQTT side, as seen from the twins."""

    async def receive(self, limit: int = ..., most_bytes: int = ...) -> Arrived:
        """Wait for messages, or a new connection."""

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send, or return False."""


class Announcer:
    """Says what is stored already. `twins` is the keeper's own mapping, read only here."""

    def __init__(
        self, bus: Bus, roster: Roster, twins: Mapping[str, Twin], now_ms: Callable[[], int]
    ) -> None:
        self._bus, self._roster, self._twins, self._now_ms = bus, roster, twins, now_ms
        self._sent: dict[str, tuple[dict[str, str], float]] = {}  # newest delta by device, and when
        self._owed: set[str] = set()  # devices whose delta the broker did not take

    def changed(self, device_id: str, changes: Mapping[str, Change], event_id: str) -> None:
        """Publish the document of these changes, then the delta if the device has something to take."""
        device = self._roster.devices.get(device_id)
        model = self._roster.model_of(device) if device else None
        if model is None:
            return
        if changes:
            document = payloads.encode_document(event_id, self._now_ms(), changes, model)
            self._bus.publish(topics.document(device_id), document)
        self._delta(device_id, model, event_id)

    def returned(self, device_id: str) -> None:
        """Tell a device that has come back what it missed, once."""
        device = self._roster.devices.get(device_id)
        if device and (model := self._roster.model_of(device)) is not None:
            self._delta(device_id, model, again=True)

    def all(self) -> None:
        """Tell every device what it has to take: the broker, or this agent, has just come back."""
        for device_id in self._roster.devices:
            self.returned(device_id)

    def members(self, joined: Iterable[str], gone: Iterable[str]) -> None:
        """Tell which devices joined or left the node."""
        added = [
            self._roster.member(d, "", "") for d in sorted(joined) if d in self._roster.devices
        ]
        removed = sorted(gone)
        if added or removed:
            body = payloads.encode_membership(self._now_ms(), added, removed)
            self._bus.publish(topics.membership_updated(self._roster.node), body)

    async def repay(self) -> None:
        """Send deltas that the broker did not take while it could not keep up; runs until cancelled."""
        while True:
            await asyncio.sleep(DELTA_REPEAT_S)
            for device_id in sorted(self._owed):
                self.changed(device_id, {}, "")

    def forget(self, device_id: str) -> None:
        """Drop what is known of a device that is gone."""
        self._sent.pop(device_id, None)
        self._owed.discard(device_id)

    def _delta(
        self, device_id: str, model: DeviceModel, event_id: str = "", *, again: bool = False
    ) -> None:
        twin = self._twins.get(device_id)
        delta = unsynced(twin, model, self._roster.devices.get(device_id)) if twin else {}
        if twin is None or not delta:
            self.forget(device_id)
            return
        if twin.state == "offline":
            # A broker may keep messages for a device that is away: it would get each of them, not the newest.
            self._owed.discard(device_id)
            return
        now_s = asyncio.get_running_loop().time()
        sent, sent_s = self._sent.get(device_id, ({}, 0.0))
        if not again and sent == delta and now_s - sent_s < DELTA_REPEAT_S:
            return
        body = payloads.encode_delta(event_id, self._now_ms(), twin.properties, model, delta)
        if self._bus.publish(topics.delta(device_id), body):
            self._sent[device_id] = delta, now_s
            self._owed.discard(device_id)
        else:
            self._owed.add(device_id)
