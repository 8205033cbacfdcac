"""The twin machine: what a device should be, what the edge has taken of that, and what the device says.

Per property: `desired` comes from the Device object; the edge takes it (`observed_desired`), or takes one
from a local program until the cloud's next change; the device answers with `reported`. A twin is immutable:
every merge returns a new one and what changed, so that a caller whose commit fails still holds the old.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Struct, structs

from corekit.timestamps import rfc3339
from devicemodels.objects import (
    Device,
    DeviceModel,
    DeviceProperty,
    ModelProperty,
    StatusTwin,
    TwinValue,
)
from devicemodels.values import AccessModeError, DeviceModelError, parse_desired, parse_value
from devicemodels.writes import (
    INVALID,
    READ_ONLY,
    Asked,
    PropertyTwin,
    Stamped,
    answered,
    ask,
    expire,
    forget,
    is_empty,
    must_be_told,
    refuse_asked,
    refused_by_device,
    set_locally,
)

__all__ = [
    "REFRESH_MS",
    "STATES",
    "Change",
    "Merged",
    "PropertyTwin",
    "Reading",
    "Stamped",
    "Twin",
    "come_back",
    "decode_twin",
    "encode_twin",
    "expire_writes",
    "is_empty",
    "merge_readings",
    "merge_state",
    "settle",
    "status_twins",
    "take_desired",
    "type_word",
    "unsynced",
]

# An unchanged value repeated by a device moves its time, and so the disk and the cloud, only this often.
REFRESH_MS = 60_000
STATES = ("online", "offline", "ok", "unknown", "unhealthy")


class Twin(Struct, frozen=True, omit_defaults=True):
    """The twin of one device; `uid` keeps a device that was made anew from inheriting the old one's.

    Shapes:  generation: of the Device's spec whose desired values were taken.
             owed: the cloud has not been told of the newest change yet.
    """

    uid: str
    properties: dict[str, PropertyTwin] = {}
    state: str = ""
    online_ms: int = 0  # when it last said it was online; 0: never
    generation: int = 0
    owed: bool = False


class Change(NamedTuple):
    """A property before and after a merge; None: it was, or is, not there."""

    last: PropertyTwin | None
    current: PropertyTwin | None


class Merged(NamedTuple):
    """Outcome of a merge: the new twin, what a caller touched, and what had to be refused.

    Shapes:  touched: every property named by an accepted request, even if it kept its value.
    """

    twin: Twin
    touched: dict[str, Change]
    refused: list[DeviceModelError]

    def differs(self, before: Twin) -> bool:
        """Tell whether there is anything new to store."""
        return self.twin != before


class Reading(NamedTuple):
    """What one request says of one property; None: nothing.

    Shapes:  refused: why the device will not take the value. deleted: forget all that is known of it.
    """

    reported: str | None = None
    observed_desired: str | None = None
    refused: str | None = None
    deleted: bool = False


def take_desired(twin: Twin, device: Device, model: DeviceModel, now_ms: int) -> Merged:
    """Take what the Device object asks for; drop properties that the model no longer has.

    A value that the model forbids is refused on its own: the other properties still converge.
    """
    properties = {n: p for n, p in twin.properties.items() if model.property(n) is not None}
    touched = {n: Change(p, None) for n, p in twin.properties.items() if n not in properties}
    refused: list[DeviceModelError] = []
    for prop in model.spec.properties:
        before = properties.get(prop.name, PropertyTwin())
        after = _take(before, device, prop, now_ms, refused)
        if after is not before:
            properties[prop.name] = after
            touched[prop.name] = Change(twin.properties.get(prop.name), after)
    changed = structs.replace(twin, properties=properties) if touched else twin
    if changed.generation != device.metadata.generation:
        changed = structs.replace(changed, generation=device.metadata.generation)
    return Merged(changed, touched, refused)


def merge_readings(
    twin: Twin,
    device_id: str,
    model: DeviceModel,
    readings: Mapping[str, Reading],
    now_ms: int,
    *,
    device: Device | None = None,
    linked: bool = True,
) -> Merged:
    """Merge what a device or a local program says; all of it or, on the first bad property, none.

    Shapes:  device: whose conflict rules hold; None: the defaults. linked: the cloud can see it now.
    Raises:  DeviceModelError: naming device, property, value and limit.
    """
    properties = dict(twin.properties)
    touched: dict[str, Change] = {}
    for name, reading in readings.items():
        prop = model.property(name)
        if prop is None:
            known = f"is not in its model {model.metadata.name}"
            raise DeviceModelError(device_id, name[:64], known)
        last = properties.get(name)
        if reading.deleted:
            if last is not None and not is_empty(last):
                properties[name] = _delete(last, device, prop, now_ms)
                touched[name] = Change(last, properties[name])
            continue
        rule = device.property(name).conflict if device else "Cloud"
        current = _read(last or PropertyTwin(), device_id, prop, reading, now_ms, linked=linked)
        if reading.reported is not None:
            current = answered(current, prop, rule, now_ms, linked=linked)
        properties[name] = current
        touched[name] = Change(last, current)
    return Merged(structs.replace(twin, properties=properties), touched, [])


def expire_writes(twin: Twin, device: Device, now_ms: int) -> Twin:
    """Return the twin with every write expired whose time is up; the same one if there is none."""
    offline = twin.state == "offline"
    late = {}
    for name, held in twin.properties.items():
        timeout_s = device.property(name).write_timeout_seconds
        if (after := expire(held, timeout_s, now_ms, offline=offline)) is not held:
            late[name] = after
    return structs.replace(twin, properties={**twin.properties, **late}) if late else twin


def settle(twin: Twin) -> Twin:
    """Return the twin with no property contested: the cloud has seen what was changed here."""
    if not any(held.contested for held in twin.properties.values()):
        return twin
    seen = {n: structs.replace(p, contested=False) for n, p in twin.properties.items()}
    return structs.replace(twin, properties=seen)


def come_back(twin: Twin, now_ms: int) -> Twin:
    """Return the twin of a device that was heard; one that had gone is online again."""
    if twin.state in ("", "offline", "unknown"):
        return structs.replace(twin, state="online", online_ms=now_ms)
    if 0 <= now_ms - twin.online_ms < REFRESH_MS or twin.state not in ("online", "ok"):
        return twin
    return structs.replace(twin, online_ms=now_ms)


def merge_state(twin: Twin, state: str, now_ms: int) -> Twin | None:
    """Merge a device's state (one of `STATES`, any case); None if there is no such state."""
    word = state.lower()
    if word not in STATES:
        return None
    online_ms = twin.online_ms
    repeated = twin.state == word and 0 <= now_ms - online_ms < REFRESH_MS
    if word in ("online", "ok") and not repeated:
        online_ms = now_ms
    return structs.replace(twin, state=word, online_ms=online_ms)


def unsynced(twin: Twin, model: DeviceModel, device: Device | None = None) -> dict[str, str]:
    """Return the values the device still has to take: observed desired, and not reported as such."""
    waiting = {}
    for name, held in twin.properties.items():
        prop, want = model.property(name), held.observed_desired
        rule = device.property(name).conflict if device else "Cloud"
        if prop is not None and want is not None and must_be_told(held, prop, rule):
            waiting[name] = want.value
    return waiting


def status_twins(twin: Twin, model: DeviceModel) -> tuple[StatusTwin, ...]:
    """Return `status.twins` of the Device, in the model's order."""
    listed = []
    for prop in model.spec.properties:
        held = twin.properties.get(prop.name)
        if held is None or is_empty(held):
            continue
        listed.append(
            StatusTwin(
                property_name=prop.name,
                reported=_text(prop, held.reported),
                observed_desired=_text(prop, held.observed_desired),
                phase=held.phase,
                reason=held.reason,
                message=held.message,
                since=rfc3339(held.since_ms / 1000) if held.since_ms else "",
            )
        )
    return tuple(listed)


def encode_twin(twin: Twin) -> bytes:
    """Return the twin as it is stored."""
    return msgspec.json.encode(twin)


def decode_twin(stored: bytes) -> Twin:
    """Return a stored twin. Raises: msgspec.DecodeError."""
    return msgspec.json.decode(stored, type=Twin)


def type_word(prop: ModelProperty) -> str:
    """Return the property's type as twins' metadata write it."""
    return prop.type.lower()


def _take(
    before: PropertyTwin,
    device: Device,
    prop: ModelProperty,
    now_ms: int,
    refused: list[DeviceModelError],
) -> PropertyTwin:
    spec = device.property(prop.name)
    asked = _asked(spec)
    if asked is not None:
        try:
            parse_desired(device.id, prop, asked.value)
        except DeviceModelError as exc:
            refused.append(exc)
            reason = READ_ONLY if isinstance(exc, AccessModeError) else INVALID
            return refuse_asked(before, asked, reason, exc.problem, now_ms)
    return ask(before, asked, spec.conflict, now_ms)


def _asked(spec: DeviceProperty) -> Asked | None:
    if spec.desired is None:
        return None
    text = spec.desired.metadata.get("timestamp", "")
    # 2^53 ms is the year 287396: what is longer is no time.
    asked_ms = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0
    return Asked(spec.desired.value, asked_ms)


def _delete(
    before: PropertyTwin, device: Device | None, prop: ModelProperty, now_ms: int
) -> PropertyTwin:
    """Forget a property; what the Device object asks of it stands, and is asked anew."""
    after = forget(before)
    return _take(after, device, prop, now_ms, []) if device else after


def _read(
    before: PropertyTwin,
    device_id: str,
    prop: ModelProperty,
    reading: Reading,
    now_ms: int,
    *,
    linked: bool,
) -> PropertyTwin:
    after = before
    if (wanted := reading.observed_desired) is not None:
        parse_desired(device_id, prop, wanted)
        stamped = _stamp(before.observed_desired, wanted, now_ms)
        after = set_locally(after, wanted, now_ms, linked=linked, stamped=stamped)
    if reading.reported is not None:
        parse_value(device_id, prop, reading.reported)
        stamped = _stamp(before.reported, reading.reported, now_ms)
        if stamped is not before.reported:
            count = before.reported_count + 1
            after = structs.replace(after, reported=stamped, reported_count=count)
    if reading.refused is not None:
        after = refused_by_device(after, reading.refused, now_ms)
    return after


def _stamp(held: Stamped | None, value: str, now_ms: int) -> Stamped:
    # A clock that was set back must not freeze the time of a value for as long as it was ahead.
    if held and held.value == value and 0 <= now_ms - held.time_ms < REFRESH_MS:
        return held
    return Stamped(value, now_ms)


def _text(prop: ModelProperty, held: Stamped | None) -> TwinValue | None:
    if held is None:
        return None
    metadata = {"timestamp": str(held.time_ms), "type": type_word(prop)}
    return TwinValue(value=held.value, metadata=metadata)
