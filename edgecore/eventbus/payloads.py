"""JSON bodies of the device topics: strict in what comes in, KubeEdge's field names in what goes out.

MQTT says `expected` and `actual` where everything else here says observed desired and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from corekit.errors import EdgeError
from devicemodels.objects import DeviceModel, ModelProperty
from devicemodels.twin import Change, PropertyTwin, Reading, Stamped, is_empty, type_word
from devicemodels.versions import Version, Versioned

# Four times the largest twin value, far below what one message may hold up the others.
MAX_PAYLOAD_BYTES = 256 << 10
DELETED = "deleted"  # the type of a property that is no more
BAD_REQUEST, NOT_FOUND, CONFLICT, INTERNAL = 400, 404, 409, 500


class PayloadError(EdgeError):
    """A request cannot be served; `code` and the message go back to the sender.

    Shapes:  unreadable: its body is not what such a request has.
    """

    def __init__(
        self, code: int, reason: str, event_id: str = "", *, unreadable: bool = False
    ) -> None:
        self.code, self.reason, self.event_id = code, reason, event_id
        self.unreadable = unreadable
        super().__init__(f"{code}: {reason}")


# As large as SQLite's and JSON's integers go without loss everywhere.
_Version = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]


class _Value(Struct):
    value: str | None = None


class _Refused(Struct):
    reason: str = ""


class _Twin(Struct):
    expected: _Value | None = None
    actual: _Value | None = None
    refused: _Refused | None = None  # ours: KubeEdge has no word for a device that will not


class _Count(Struct):
    cloud: _Version = 0
    edge: _Version = 0


class _Type(Struct):
    type: str = ""


class _VersionedTwin(_Twin):
    metadata: _Type | None = None
    expected_version: _Count | None = None
    actual_version: _Count | None = None


class _CloudUpdate(Struct):
    event_id: str = ""
    twin: dict[str, _VersionedTwin | None] | UnsetType = UNSET


class _Update(Struct):
    event_id: str = ""
    twin: dict[str, _Twin | None] | UnsetType = UNSET


class _State(Struct):
    event_id: str = ""
    state: str | UnsetType = UNSET


class _Get(Struct):
    event_id: str = ""


class Update(NamedTuple):
    """A twin/update request."""

    event_id: str
    readings: dict[str, Reading]


class CloudUpdate(NamedTuple):
    """A twin/cloud_updated message."""

    event_id: str
    wanted: dict[str, Versioned]


class StateUpdate(NamedTuple):
    """A state/update request."""

    event_id: str
    state: str


T = TypeVar("T")
_UPDATES = msgspec.json.Decoder(_Update)
_CLOUD_UPDATES = msgspec.json.Decoder(_CloudUpdate)
_STATES = msgspec.json.Decoder(_State)
_GETS = msgspec.json.Decoder(_Get)


def decode_update(payload: bytes) -> Update:
    """Return a twin/update request.

    Raises:  PayloadError: 400, with the reason.
    """
    body = _decode(_UPDATES, payload)
    if isinstance(body.twin, UnsetType):
        raise PayloadError(BAD_REQUEST, "`twin` is missing", body.event_id)
    readings = {}
    for name, twin in body.twin.items():
        if twin is None:
            readings[name] = Reading(deleted=True)
            continue
        readings[name] = _reading(twin)
    return Update(body.event_id, readings)


def decode_reports(payload: bytes) -> tuple[str, dict[str, str]] | None:
    """Return event id and values of a twin/update that only reports; None if it does more, or is wrong."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        body = _UPDATES.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(body.twin, UnsetType):
        return None
    reports = {}
    for name, twin in body.twin.items():
        if twin is None or twin.expected is not None or twin.refused is not None:
            return None
        if twin.actual is None or twin.actual.value is None:
            return None
        reports[name] = twin.actual.value
    return (body.event_id, reports) if reports else None


def decode_cloud_update(payload: bytes) -> CloudUpdate:
    """Return a twin/cloud_updated message.

    Raises:  PayloadError: 400, with the reason.
    """
    body = _decode(_CLOUD_UPDATES, payload)
    if isinstance(body.twin, UnsetType):
        raise PayloadError(BAD_REQUEST, "`twin` is missing", body.event_id)
    wanted = {}
    for name, twin in body.twin.items():
        if twin is None or (twin.metadata and twin.metadata.type == DELETED):
            reading = Reading(deleted=True)
        else:
            reading = _reading(twin)
        expected, actual = (
            Version(count.cloud, count.edge) if count else None
            for count in (twin and twin.expected_version, twin and twin.actual_version)
        )
        wanted[name] = Versioned(reading, expected, actual)
    return CloudUpdate(body.event_id, wanted)


def decode_state(payload: bytes) -> StateUpdate:
    """Return a state/update request. Raises: PayloadError."""
    body = _decode(_STATES, payload)
    if isinstance(body.state, UnsetType):
        raise PayloadError(BAD_REQUEST, "`state` is missing", body.event_id)
    return StateUpdate(body.event_id, body.state)


def decode_get(payload: bytes) -> str:
    """Return the event id of a twin/get or membership/get request. Raises: PayloadError."""
    return _decode(_GETS, payload).event_id


def encode_error(error: PayloadError, now_ms: int) -> bytes:
    """Return an error result."""
    return _encode(error.event_id, now_ms, code=error.code, reason=error.reason)


def encode_twins(
    event_id: str, now_ms: int, twins: Mapping[str, PropertyTwin | None], model: DeviceModel
) -> bytes:
    """Return the result of twin/update or twin/get; versions are left out, and one that was deleted is null."""
    return _encode(event_id, now_ms, twin=_twins(twins, model))


class ReportedPart:
    """What a result says of a property that has a reported value only: `encode_twins` in pieces made once."""

    __slots__ = ("_begin", "_end", "is_text")

    def __init__(self, prop: ModelProperty) -> None:
        self._begin = f'{_quoted(prop.name)}:{{"actual":{{"value":'
        self._end = f'}}}},"optional":true,"metadata":{{"type":{_quoted(type_word(prop))}}}}}'
        # Of the other types, what the model allows has nothing in it that JSON escapes.
        self.is_text = prop.type not in ("INT", "FLOAT", "DOUBLE", "BOOLEAN")

    def encode(self, text: str, time_ms: int) -> str:
        """Return the member of `twin` for a value that the model allows."""
        value = _quoted(text) if self.is_text else f'"{text}"'
        return f'{self._begin}{value},"metadata":{{"timestamp":{time_ms}{self._end}'


def encode_reported(event_id: str, now_ms: int, parts: Iterable[str]) -> bytes:
    """Return the result of a twin/update that reported, from the parts of its properties."""
    twin = ",".join(parts)
    said = _quoted(event_id) if event_id else '""'
    return f'{{"event_id":{said},"timestamp":{now_ms},"twin":{{{twin}}}}}'.encode()


def encode_delta(
    event_id: str,
    now_ms: int,
    twins: Mapping[str, PropertyTwin],
    model: DeviceModel,
    delta: Mapping[str, str],
) -> bytes:
    """Return the values the device has to take, beside all twins that expect anything."""
    wanted = {name: held for name, held in twins.items() if held.observed_desired is not None}
    return _encode(event_id, now_ms, twin=_twins(wanted, model), delta=dict(delta))


def encode_document(
    event_id: str, now_ms: int, changes: Mapping[str, Change], model: DeviceModel
) -> bytes:
    """Return what changed, before and after, with versions."""
    twin = {
        name: {
            "last": _twin(name, _shown(change.last), model, versions=True),
            "current": _twin(name, _shown(change.current), model, versions=True),
        }
        for name, change in changes.items()
    }
    return _encode(event_id, now_ms, twin=twin)


def encode_state(event_id: str, now_ms: int, name: str, state: str, last_online: str) -> bytes:
    """Return the result of state/update."""
    device = {"name": name, "state": state, "lastOnlineTime": last_online}
    return _encode(event_id, now_ms, device=device)


class Member(NamedTuple):
    """A device of this node, as membership messages list it."""

    id: str
    name: str
    description: str
    state: str = ""
    last_online: str = ""


def encode_members(event_id: str, now_ms: int, members: Iterable[Member]) -> bytes:
    """Return the result of membership/get."""
    devices = [{**member._asdict(), "attributes": {}} for member in members]
    return _encode(event_id, now_ms, devices=devices)


def encode_membership(now_ms: int, added: Iterable[Member], removed: Iterable[str]) -> bytes:
    """Return what membership/updated says; an empty side is null, as KubeEdge has it."""
    joined = [m._asdict() for m in added] or None
    left = [{"id": device_id} for device_id in removed] or None
    return _encode("", now_ms, added_devices=joined, removed_devices=left)


def _reading(twin: _Twin) -> Reading:
    actual, expected, refused = twin.actual, twin.expected, twin.refused
    return Reading(
        actual.value if actual else None,
        expected.value if expected else None,
        refused.reason if refused else None,
    )


def _decode(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    if len(payload) > MAX_PAYLOAD_BYTES:
        size = f"payload of {len(payload)} bytes is more than the limit of {MAX_PAYLOAD_BYTES}"
        raise PayloadError(BAD_REQUEST, size, unreadable=True)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        # The whole body once more would only be for the event id, and a wrong body may have none.
        raise PayloadError(BAD_REQUEST, f"bad request body: {exc}", unreadable=True) from exc


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _encode(event_id: str, now_ms: int, **members: Any) -> bytes:
    return msgspec.json.encode({"event_id": event_id, "timestamp": now_ms, **members})


def _shown(held: PropertyTwin | None) -> PropertyTwin | None:
    return None if held is None or is_empty(held) else held


def _twins(twins: Mapping[str, PropertyTwin | None], model: DeviceModel) -> dict[str, Any]:
    return {name: _twin(name, held, model) for name, held in twins.items()}


def _twin(
    name: str, held: PropertyTwin | None, model: DeviceModel, *, versions: bool = False
) -> dict[str, Any] | None:
    if held is None:
        return None
    twin: dict[str, Any] = {}
    if held.observed_desired is not None:
        twin["expected"] = _value(held.observed_desired)
    if held.reported is not None:
        twin["actual"] = _value(held.reported)
    twin["optional"] = True
    prop = model.property(name)
    twin["metadata"] = {"type": type_word(prop) if prop else DELETED}
    if versions:
        twin["expected_version"] = {"cloud": held.desired_count, "edge": held.local_count}
        twin["actual_version"] = {"cloud": 0, "edge": held.reported_count}
    return twin


def _value(stamped: Stamped) -> dict[str, Any]:
    return {"value": stamped.value, "metadata": {"timestamp": stamped.time_ms}}
