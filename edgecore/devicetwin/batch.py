"""One batch of MQTT requests worked through on copies: what to store, and what to say once it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from corekit.timestamps import rfc3339
from devicemodels.columns import check_column, text_of
from devicemodels.objects import Device, DeviceModel, ModelProperty
from devicemodels.reporting import Admission, admit, policy_of
from devicemodels.twin import (
    STATES,
    Change,
    Reading,
    Twin,
    come_back,
    is_empty,
    merge_readings,
    merge_state,
)
from devicemodels.values import DeviceModelError, parse_value
from devicemodels.versions import merge_versioned
from edgecore.devicetwin.folding import Lane
from edgecore.devicetwin.roster import Roster
from edgecore.devicetwin.streaming import Streamed
from edgecore.eventbus import payloads, topics
from edgecore.eventbus.compact import decode_table
from edgecore.eventbus.payloads import BAD_REQUEST, CONFLICT, INTERNAL, NOT_FOUND, PayloadError
from edgecore.eventbus.topics import Asked, Request


class Answer(NamedTuple):
    """One result; `durable`: it promises that something is stored."""

    topic: str
    payload: bytes
    durable: bool = False
    event_id: str = ""


class Checked(NamedTuple):
    """Values of one property that its model allows, oldest first, and the newest of them as twins hold it.

    Shapes:  values: typed; of STRING, BYTES and JSON as on the wire.
    """

    prop: ModelProperty
    times_ms: list[int]
    values: list[Any]
    newest: str


class Batch:
    """Requests in the order they came. Nothing outside changes until the caller has committed."""

    def __init__(
        self, roster: Roster, twins: Mapping[str, Twin], now_ms: int, *, linked: bool = True
    ) -> None:
        self.answers: list[Answer] = []
        self.twins: dict[str, Twin] = {}  # new twins by device id
        self.changes: dict[
            str, dict[str, Change]
        ] = {}  # over the whole batch: first last, newest current
        self.event_ids: dict[str, str] = {}  # the newest request of each device
        self.heard: set[str] = set()  # devices that said something themselves
        self.late: dict[tuple[str, str], str] = {}  # values whose minimum interval is not over
        self.streamed = Streamed()
        self.problem = ""  # why it could not be stored
        self.now_ms = now_ms
        self._lanes: dict[str, Lane | None] = {}  # what is not in `twins` yet, by device
        self._roster, self._held, self._linked = roster, twins, linked

    def handle(self, topic: str, payload: bytes) -> None:
        """Work one message through; every request gets exactly one answer, a table of values only a bad one."""
        request = topics.parse(topic)
        if request is None:
            return
        if request.asked is Asked.TWIN_UPDATE and self._take_reports(request, payload):
            return
        if request.asked is Asked.MEMBERSHIP_GET and request.target != self._roster.node:
            return  # another node's, on a shared broker
        try:
            answer = _HANDLERS[request.asked](self, request, payload)
            if answer is not None:
                self.answers.append(answer)
        except PayloadError as exc:
            body = payloads.encode_error(exc, self.now_ms)
            self.answers.append(Answer(topics.result(request), body))
            if exc.unreadable and (place := topics.unreadable(request)):
                self.answers.append(Answer(place, body))  # where KubeEdge's clients look for it

    def fold(self) -> None:
        """Put everything that was only reported into `twins` and `changes`; the caller does before it reads them."""
        for device_id in list(self._lanes):
            self._fold(device_id)

    def _take_reports(self, request: Request, payload: bytes) -> bool:
        """Take a message that only reports, of properties that nobody has asked anything of; False: not one of those."""
        reported = payloads.decode_reports(payload)
        device_id = request.target
        lane = self._lanes[device_id] if device_id in self._lanes else self._open(request)
        if reported is None or lane is None:
            return False
        event_id, reports = reported
        parts = lane.take(reports, self.now_ms)
        if parts is None:
            return False
        body = payloads.encode_reported(event_id, self.now_ms, parts)
        self.answers.append(Answer(lane.topic, body, True, event_id))
        self.event_ids[device_id] = event_id
        return True

    def _open(self, request: Request) -> Lane | None:
        device_id, lane = request.target, None
        device = self._roster.devices.get(device_id)
        if device is not None and (model := self._roster.model_of(device)) is not None:
            lane = Lane(device, model, self._twin(device_id), topics.result(request))
        self._lanes[device_id] = lane
        return lane

    def _fold(self, device_id: str) -> None:
        lane = self._lanes.pop(device_id, None)
        tracks = lane.tracks() if lane else []
        if not tracks:
            return
        twin = self._twin(device_id)
        touched = {track.prop.name: track.change() for track in tracks}
        folded = {name: change.current for name, change in touched.items() if change.current}
        self._changed(device_id, touched)
        for track in tracks:
            self.streamed.add_values(device_id, track.prop, self.now_ms, track.values)
        self.twins[device_id] = structs.replace(twin, properties={**twin.properties, **folded})
        self._hear(device_id)

    def failed(self, problem: str) -> list[Answer]:
        """Return what to say instead, the commit having failed: an error where storage was promised."""
        told = []
        for answer in self.answers:
            if answer.durable:
                error = PayloadError(INTERNAL, problem, answer.event_id)
                answer = answer._replace(payload=payloads.encode_error(error, self.now_ms))
            told.append(answer)
        return told

    def _update(self, request: Request, payload: bytes) -> Answer:
        event_id, readings = payloads.decode_update(payload)
        return self.update(request, readings, event_id)

    def update(self, request: Request, readings: Mapping[str, Reading], event_id: str) -> Answer:
        """Merge what was said of one device; return the result for MQTT. Raises: PayloadError."""
        try:
            merged = self.merge(request.target, readings)
        except DeviceModelError as exc:
            raise PayloadError(BAD_REQUEST, str(exc), event_id) from exc
        except PayloadError as exc:
            raise PayloadError(exc.code, exc.reason, event_id) from exc
        self.event_ids[request.target] = event_id
        model = self._roster.served(request.target)[1]
        current = {
            n: None if readings[n].deleted else c.current
            for n, c in merged.items()
            if c.current is not None
        }
        body = payloads.encode_twins(event_id, self.now_ms, current, model)
        return Answer(topics.result(request), body, durable=True, event_id=event_id)

    def _cloud_update(self, request: Request, payload: bytes) -> None:
        """Take values that come with versions; there is an answer only if something was not taken."""
        event_id, wanted = payloads.decode_cloud_update(payload)
        device_id = request.target
        try:
            device, model = self._roster.served(device_id)
            synced = merge_versioned(
                self._twin(device_id), device, model, wanted, self.now_ms, linked=self._linked
            )
        except DeviceModelError as exc:
            raise PayloadError(BAD_REQUEST, str(exc), event_id) from exc
        except PayloadError as exc:
            raise PayloadError(exc.code, exc.reason, event_id) from exc
        self.twins[device_id] = synced.twin
        self.event_ids[device_id] = event_id
        self._changed(device_id, synced.touched)
        if synced.older:
            said = "; ".join(f"property {n[:64]!r}: {why}" for n, why in synced.older.items())
            raise PayloadError(CONFLICT, f"device {device_id}: {said}", event_id)

    def _values(self, request: Request, payload: bytes) -> None:
        """Take a table: every value to the stream, the newest of each property to the twin."""
        table = decode_table(payload, self.now_ms)
        device_id = request.target
        try:
            model = self.model_of(device_id)
            columns = []
            for name, (times, values) in table.columns.items():
                prop = model.property(name)
                if prop is None:
                    known = f"is not in its model {model.metadata.name}"
                    raise DeviceModelError(device_id, name[:64], known)
                if values:
                    check_column(device_id, prop, values)
                    columns.append(Checked(prop, times, values, text_of(prop, values[-1])))
            self.take(device_id, columns)
        except DeviceModelError as exc:
            raise PayloadError(BAD_REQUEST, str(exc), table.event_id) from exc
        except PayloadError as exc:
            raise PayloadError(exc.code, exc.reason, table.event_id) from exc

    def take(self, device_id: str, columns: Sequence[Checked]) -> None:
        """Take many values of one device: the newest of each property into its twin, every one to the stream.

        Raises:  PayloadError: the device is not served here.
        """
        device, _ = self._roster.served(device_id)
        readings = {column.prop.name: Reading(column.newest) for column in columns}
        self.merge(device_id, readings, streamed=False)
        for prop, times_ms, values, _newest in columns:
            if policy_of(device, prop) is None:
                self.streamed.add_column(device_id, prop, times_ms, values)

    def merge(
        self, device_id: str, readings: Mapping[str, Reading], *, streamed: bool = True
    ) -> dict[str, Change]:
        """Merge what was said of one device; return what it touched.

        Shapes:  streamed: whether the values go to the stream as they are here.

        Raises:  DeviceModelError: nothing of it is taken. PayloadError: the device is not served here.
        """
        device, model = self._roster.served(device_id)
        twin = self._twin(device_id)
        readings = self._admitted(device, model, twin, readings)
        merged = merge_readings(
            twin, device_id, model, readings, self.now_ms, device=device, linked=self._linked
        )
        self.twins[device_id] = merged.twin
        if any(r.reported is not None or r.refused is not None for r in readings.values()):
            self._hear(device_id)
        for name, reading in readings.items():
            prop = model.property(name)
            if reading.reported is None or prop is None:
                continue
            if streamed or policy_of(device, prop) is not None:
                self.streamed.add(device_id, prop, self.now_ms, reading.reported)
        self._changed(device_id, merged.touched)
        return merged.touched

    def _changed(self, device_id: str, touched: Mapping[str, Change]) -> None:
        changes = self.changes.setdefault(device_id, {})
        for name, change in touched.items():
            earlier = changes.get(name)
            changes[name] = Change(earlier.last, change.current) if earlier else change

    def model_of(self, device_id: str) -> DeviceModel:
        """Return the model of a device that is served here. Raises: PayloadError."""
        return self._roster.served(device_id)[1]

    def _hear(self, device_id: str) -> None:
        self.heard.add(device_id)
        self.twins[device_id] = come_back(self.twins[device_id], self.now_ms)

    def _admitted(
        self, device: Device, model: DeviceModel, twin: Twin, readings: Mapping[str, Reading]
    ) -> Mapping[str, Reading]:
        """Return the readings that the properties' reporting policies let through."""
        kept = dict(readings)
        for name, reading in readings.items():
            prop = model.property(name)
            if prop is None or reading.reported is None:
                continue
            if (policy := policy_of(device, prop)) is None:
                continue
            parse_value(device.id, prop, reading.reported)  # a wrong one is refused all the same
            held = twin.properties.get(name)
            verdict = admit(policy, prop, held, reading.reported, self.now_ms)
            if verdict is Admission.TAKE:
                continue
            self.heard.add(device.id)
            if verdict is Admission.LATER:
                self.late[device.id, name] = reading.reported
            kept[name] = reading._replace(reported=None)
        return kept

    def _get(self, request: Request, payload: bytes) -> Answer:
        event_id = payloads.decode_get(payload)
        try:
            _, model = self._roster.served(request.target)
        except PayloadError as exc:
            raise PayloadError(exc.code, exc.reason, event_id) from exc
        properties = self._twin(request.target).properties
        held = {name: twin for name, twin in properties.items() if not is_empty(twin)}
        body = payloads.encode_twins(event_id, self.now_ms, held, model)
        return Answer(topics.result(request), body)

    def _state(self, request: Request, payload: bytes) -> Answer:
        event_id, state = payloads.decode_state(payload)
        return self.state(request, state, event_id)

    def state(self, request: Request, state: str, event_id: str) -> Answer:
        """Take the state of a device; return the result for MQTT. Raises: PayloadError."""
        if request.target not in self._roster.devices:
            unknown = f"device {request.target[:512]}: is not a device of node {self._roster.node}"
            raise PayloadError(NOT_FOUND, unknown, event_id)
        twin = merge_state(self._twin(request.target), state, self.now_ms)
        if twin is None:
            allowed = f"state {state[:40]!r} is not one of {', '.join(STATES)}"
            raise PayloadError(BAD_REQUEST, f"device {request.target}: {allowed}", event_id)
        self.twins[request.target] = twin
        if twin.state != "offline":
            self.heard.add(request.target)
        online = twin.state in ("online", "ok")
        body = payloads.encode_state(
            event_id,
            self.now_ms,
            request.target.partition("/")[2],
            twin.state,
            rfc3339(self.now_ms / 1000) if online else "",
        )
        return Answer(topics.result(request), body, durable=True, event_id=event_id)

    def _members(self, request: Request, payload: bytes) -> Answer:
        event_id = payloads.decode_get(payload)
        members = []
        for device_id in sorted(self._roster.devices):
            twin = self._twin(device_id)
            members.append(self._roster.member(device_id, twin.state, last_online(twin)))
        body = payloads.encode_members(event_id, self.now_ms, members)
        return Answer(topics.result(request), body)

    def _twin(self, device_id: str) -> Twin:
        if device_id in self._lanes:
            self._fold(device_id)  # whoever asks sees everything that was said before
        held = self.twins.get(device_id) or self._held.get(device_id)
        return held or Twin(self._roster.device(device_id).metadata.uid)


def last_online(twin: Twin) -> str:
    """Return when the device last said it was online, as Kubernetes writes it; empty: never."""
    return rfc3339(twin.online_ms / 1000) if twin.online_ms else ""


_HANDLERS: dict[Asked, Callable[[Batch, Request, bytes], Answer | None]] = {
    Asked.VALUES: Batch._values,
    Asked.TWIN_UPDATE: Batch._update,
    Asked.TWIN_GET: Batch._get,
    Asked.CLOUD_UPDATED: Batch._cloud_update,
    Asked.STATE_UPDATE: Batch._state,
    Asked.MEMBERSHIP_GET: Batch._members,
}
