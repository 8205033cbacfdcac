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

from devicemodels.objects import Device, DeviceModel, ModelProperty, StatusTwin, TwinValue
from devicemodels.values import DeviceModelError, parse_desired, parse_value, same_value

# An unchanged value repeated by a device moves its time, and so the disk and the cloud, only this often.
REFRESH_MS = 60_000
STATES = ("online", "offline", "ok", "unknown", "unhealthy")


class Stamped(Struct, frozen=True):
    """A value and when the edge got it."""

    value: str
    time_ms: int


class PropertyTwin(Struct, frozen=True, omit_defaults=True):
    """The twin of one property. The counts are what MQTT calls versions: cloud's and edge's changes."""

    desired: Stamped | None = None
    observed_desired: Stamped | None = None
    reported: Stamped | None = None
    desired_count: int = 0
    local_count: int = 0
    reported_count: int = 0


class Twin(Struct, frozen=True, omit_defaults=True):
    """The twin of one device; `uid` keeps a device that was made anew from inheriting the old one's."""

    uid: str
    properties: dict[str, PropertyTwin] = {}
    state: str = ""
    online_ms: int = 0  # when it last said it was online; 0: never


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
    """What one request says of one property; None: nothing."""

    reported: str | None = None
    observed_desired: str | None = None


def take_desired(twin: Twin, device: Device, model: DeviceModel, now_ms: int) -> Merged:
    """Take what the Device object asks for; drop properties that the model no longer has.

    A value that the model forbids is refused on its own: the other properties still converge.
    """
    properties = {n: p for n, p in twin.properties.items() if model.property(n) is not None}
    touched = {n: Change(p, None) for n, p in twin.properties.items() if n not in properties}
    refused: list[DeviceModelError] = []
    asked = {p.name: p.desired.value for p in device.spec.properties if p.desired is not None}
    for prop in model.spec.properties:
        before = properties.get(prop.name, PropertyTwin())
        try:
            if (value := asked.get(prop.name)) is not None:
                parse_desired(device.id, prop, value)
        except DeviceModelError as exc:
            refused.append(exc)
            continue
        after = _ask(before, value, now_ms)
        if after is not before:
            properties[prop.name] = after
            touched[prop.name] = Change(twin.properties.get(prop.name), after)
    changed = structs.replace(twin, properties=properties) if touched else twin
    return Merged(changed, touched, refused)


def merge_readings(
    twin: Twin, device_id: str, model: DeviceModel, readings: Mapping[str, Reading], now_ms: int
) -> Merged:
    """Merge what a device or a local program says; all of it or, on the first bad property, none.

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
        current = _read(last or PropertyTwin(), device_id, prop, reading, now_ms)
        properties[name] = current
        touched[name] = Change(last, current)
    return Merged(structs.replace(twin, properties=properties), touched, [])


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


def unsynced(twin: Twin, model: DeviceModel) -> dict[str, str]:
    """Return the values the device still has to take: observed desired, and not reported as such."""
    waiting = {}
    for name, held in twin.properties.items():
        prop, want = model.property(name), held.observed_desired
        if prop is None or want is None:
            continue
        if held.reported is None or not same_value(prop, want.value, held.reported.value):
            waiting[name] = want.value
    return waiting


def status_twins(twin: Twin, model: DeviceModel) -> tuple[StatusTwin, ...]:
    """Return `status.twins` of the Device, in the model's order."""
    listed = []
    for prop in model.spec.properties:
        held = twin.properties.get(prop.name)
        if held is None or (held.reported is None and held.observed_desired is None):
            continue
        reported, observed = _text(prop, held.reported), _text(prop, held.observed_desired)
        listed.append(
            StatusTwin(property_name=prop.name, reported=reported, observed_desired=observed)
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


def _ask(before: PropertyTwin, value: str | None, now_ms: int) -> PropertyTwin:
    if (before.desired.value if before.desired else None) == value:
        return before  # the cloud's value did not change: a local one stays in force
    if value is None:
        return structs.replace(before, desired=None, observed_desired=None)
    stamped = Stamped(value, now_ms)
    count = before.desired_count + 1
    return structs.replace(before, desired=stamped, observed_desired=stamped, desired_count=count)


def _read(
    before: PropertyTwin, device_id: str, prop: ModelProperty, reading: Reading, now_ms: int
) -> PropertyTwin:
    after = before
    if reading.observed_desired is not None:
        parse_desired(device_id, prop, reading.observed_desired)
        stamped = _stamp(before.observed_desired, reading.observed_desired, now_ms)
        if stamped is not before.observed_desired:
            count = before.local_count + 1
            after = structs.replace(after, observed_desired=stamped, local_count=count)
    if reading.reported is not None:
        parse_value(device_id, prop, reading.reported)
        stamped = _stamp(before.reported, reading.reported, now_ms)
        if stamped is not before.reported:
            count = before.reported_count + 1
            after = structs.replace(after, reported=stamped, reported_count=count)
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
