"""What time does to twins: writes expire, silent devices go offline, held-back values are taken after all."""

from __future__ import annotations

from collections.abc import Mapping

from devicemodels.reporting import Admission, admit, policy_of
from devicemodels.twin import Reading, Twin, expire_writes, merge_state, settle
from devicemodels.values import DeviceModelError
from edgecore.devicetwin.batch import Batch
from edgecore.devicetwin.roster import Roster

# After the link is back: changes made here have been sent up, those made in the cloud meanwhile have come down.
SETTLE_S = 5.0


class Timing:
    """Which devices time matters to. `twins` is the keeper's own mapping, read only here."""

    def __init__(self, roster: Roster, twins: Mapping[str, Twin]) -> None:
        self._roster, self._twins = roster, twins
        self.owed: set[str] = set()  # the cloud has to be told of them still
        self._pending: set[str] = set()  # some property has a write under way
        self._contested: set[str] = set()
        self._late: dict[tuple[str, str], str] = {}
        self._heard_s: dict[str, float] = {}  # only devices that are watched for silence
        self._linked_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Take all twins in; silence counts from now, whatever it was before this agent came up."""
        for device_id in self._twins:
            self.watch(device_id)
        for device_id, device in self._roster.devices.items():
            if device.spec.presence is not None:
                self._heard_s[device_id] = now_s

    def watch(self, device_id: str) -> None:
        """Look at a twin that has changed."""
        twin = self._twins[device_id]
        _mark(self.owed, device_id, wanted=twin.owed)
        phases = twin.properties.values()
        _mark(self._pending, device_id, wanted=any(p.phase == "Pending" for p in phases))
        _mark(self._contested, device_id, wanted=any(p.contested for p in phases))

    def note(self, batch: Batch, now_s: float) -> None:
        """Take in what a batch that is stored has changed."""
        for device_id in batch.twins:
            self.watch(device_id)
        for device_id in batch.heard:
            self._heard_s[device_id] = now_s
        for device_id, changes in batch.changes.items():
            for name in changes:
                self._late.pop((device_id, name), None)
        self._late.update(batch.late)

    def forget(self, device_id: str) -> None:
        """Drop what is known of a device that is gone."""
        for some in (self.owed, self._pending, self._contested):
            some.discard(device_id)
        self._heard_s.pop(device_id, None)
        for key in [key for key in self._late if key[0] == device_id]:
            del self._late[key]

    def due(self, batch: Batch, now_s: float, now_ms: int, *, linked: bool) -> None:
        """Put everything whose time has come into `batch`."""
        self._take_late(batch)
        for device_id in self._pending:
            if (device := self._roster.devices.get(device_id)) is not None:
                twin = batch.twins.get(device_id, self._twins[device_id])
                if (after := expire_writes(twin, device, now_ms)) is not twin:
                    batch.twins[device_id] = after
        self._notice_silence(batch, now_s, now_ms)
        self._linked_s = (self._linked_s or now_s) if linked else None
        if self._linked_s is not None and now_s - self._linked_s >= SETTLE_S:
            for device_id in self._contested:
                batch.twins[device_id] = settle(batch.twins.get(device_id, self._twins[device_id]))

    def _take_late(self, batch: Batch) -> None:
        for (device_id, name), text in list(self._late.items()):
            device = self._roster.devices.get(device_id)
            model = self._roster.model_of(device) if device else None
            prop = model.property(name) if model else None
            if device is None or prop is None:
                del self._late[device_id, name]
                continue
            held = self._twins[device_id].properties.get(name)
            verdict = admit(policy_of(device, prop), prop, held, text, batch.now_ms)
            if verdict is Admission.SKIP:
                del self._late[device_id, name]
            elif verdict is Admission.TAKE:
                try:
                    batch.merge(device_id, {name: Reading(reported=text)})
                except DeviceModelError:  # the model has changed meanwhile
                    del self._late[device_id, name]
        batch.heard.clear()  # nobody has said anything now

    def _notice_silence(self, batch: Batch, now_s: float, now_ms: int) -> None:
        for device_id, heard_s in self._heard_s.items():
            device = self._roster.devices.get(device_id)
            presence = device.spec.presence if device else None
            twin = batch.twins.get(device_id) or self._twins.get(device_id)
            if presence is None or twin is None or twin.state == "offline":
                continue
            after_s = presence.offline_after_seconds
            if after_s and now_s - heard_s >= after_s:
                gone = merge_state(twin, "offline", now_ms)
                batch.twins[device_id] = gone or twin


def _mark(some: set[str], device_id: str, *, wanted: bool) -> None:
    if wanted:
        some.add(device_id)
    else:
        some.discard(device_id)
