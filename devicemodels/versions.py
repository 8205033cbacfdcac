"""Twins that come with versions, as KubeEdge's cloud sends them (`twin/cloud_updated`): taken unless older. Pure.

A version is a pair (cloud, edge). What comes is taken if neither part is behind what is held here, and its version
is then the one that is held. Source: docs/devices.md "MQTT".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import structs

from devicemodels.objects import Device, DeviceModel
from devicemodels.twin import Change, PropertyTwin, Reading, Twin, merge_readings
from devicemodels.values import DeviceModelError


class Version(NamedTuple):
    """How often the cloud and the edge have changed a value."""

    cloud: int = 0
    edge: int = 0

    def __str__(self) -> str:
        return f"cloud {self.cloud}, edge {self.edge}"


class Versioned(NamedTuple):
    """What comes for one property, with the versions of its two sides; a deletion needs none."""

    reading: Reading
    expected: Version | None = None
    actual: Version | None = None


class Synced(NamedTuple):
    """Outcome: the new twin, what changed, and why the others were not taken, by property."""

    twin: Twin
    touched: dict[str, Change]
    older: dict[str, str]


def merge_versioned(
    twin: Twin,
    device: Device,
    model: DeviceModel,
    wanted: Mapping[str, Versioned],
    now_ms: int,
    *,
    linked: bool = True,
) -> Synced:
    """Take what is not older than what is held; each property by itself.

    Raises:  DeviceModelError: a value that the model forbids, or a version is missing. Nothing is taken then.
    """
    touched: dict[str, Change] = {}
    older: dict[str, str] = {}
    for name, came in wanted.items():
        held = twin.properties.get(name, PropertyTwin())
        if problem := _behind(device.id, name, held, came):
            older[name] = problem
            continue
        merged = merge_readings(
            twin, device.id, model, {name: came.reading}, now_ms, device=device, linked=linked
        )
        twin = merged.twin
        if name in merged.touched:
            after = _versioned(twin.properties[name], came)
            twin = structs.replace(twin, properties={**twin.properties, name: after})
            touched[name] = Change(merged.touched[name].last, after)
    return Synced(twin, touched, older)


def _behind(device_id: str, name: str, held: PropertyTwin, came: Versioned) -> str:
    """Return why a property is not taken, or nothing. Raises: DeviceModelError: a version is missing."""
    reading = came.reading
    sides = {
        "expected": (
            reading.observed_desired,
            came.expected,
            Version(held.desired_count, held.local_count),
        ),
        "actual": (reading.reported, came.actual, Version(0, held.reported_count)),
    }
    for side, (value, version, here) in sides.items():
        if value is not None and version is None:
            raise DeviceModelError(device_id, name[:64], f"{side}_version is missing")
        if version is None or (value is None and not reading.deleted):
            continue
        if version.cloud < here.cloud or version.edge < here.edge:
            return f"{side}_version ({version}) is behind the one here ({here})"
    return ""


def _versioned(held: PropertyTwin, came: Versioned) -> PropertyTwin:
    if came.expected is not None and came.reading.observed_desired is not None:
        held = structs.replace(
            held, desired_count=came.expected.cloud, local_count=came.expected.edge
        )
    if came.actual is not None and came.reading.reported is not None:
        held = structs.replace(held, reported_count=came.actual.edge)
    return held
