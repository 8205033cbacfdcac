"""What must hold inside a DeviceModel, and between a Device and its model, beyond their schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from devicemodels.objects import Device, DeviceModel, ModelProperty, Reporting
from devicemodels.values import DeviceModelError, has_range, parse_desired, parse_limit, quoted


class Problem(NamedTuple):
    """One thing that is wrong; `field` is a path in the object as kubectl users write it."""

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


def check_model(model: DeviceModel) -> list[Problem]:
    """Return everything that is wrong in a device model; empty if it can be used."""
    found = _check_names("spec.properties", (p.name for p in model.spec.properties))
    for index, prop in enumerate(model.spec.properties):
        path = f"spec.properties[{index}]"
        found += _check_limits(path, prop) + _check_reporting(path, prop, prop.reporting)
    return found


def check_device(device: Device, model: DeviceModel) -> list[Problem]:
    """Return everything that is wrong in a device, judged by its model; empty if it can be served."""
    found = _check_names("spec.properties", (p.name for p in device.spec.properties))
    for index, prop in enumerate(device.spec.properties):
        path = f"spec.properties[{index}]"
        typed = model.property(prop.name)
        if typed is None:
            absent = f"{quoted(prop.name)} is not a property of model {model.metadata.name}"
            found.append(Problem(f"{path}.name", absent))
            continue
        found += _check_reporting(path, typed, prop.reporting)
        if prop.desired is not None:
            try:
                parse_desired(device.id, typed, prop.desired.value)
            except DeviceModelError as exc:
                found.append(Problem(f"{path}.desired.value", exc.problem))
    for index, method in enumerate(device.spec.methods):
        for name in method.property_names:
            if model.property(name) is None:
                absent = f"{quoted(name)} is not a property of model {model.metadata.name}"
                found.append(Problem(f"spec.methods[{index}].propertyNames", absent))
    return found


def _check_names(path: str, names: Iterable[str]) -> list[Problem]:
    found, seen = [], set()
    for index, name in enumerate(names):
        if not name:
            found.append(Problem(f"{path}[{index}].name", "is empty"))
        elif name in seen:
            found.append(Problem(f"{path}[{index}].name", f"{quoted(name)} is there twice"))
        seen.add(name)
    return found


def _check_reporting(path: str, prop: ModelProperty, policy: Reporting | None) -> list[Problem]:
    if policy is None or not policy.dead_band:
        return []
    where = f"{path}.reporting.deadBand"
    if not has_range(prop):
        return [Problem(where, f"means nothing for a property of type {prop.type}")]
    try:
        low = parse_limit(prop, policy.dead_band)
    except ValueError as exc:
        return [Problem(where, f"{quoted(policy.dead_band)} {exc}")]
    return [Problem(where, f"{policy.dead_band} is less than 0")] if low < 0 else []


def _check_limits(path: str, prop: ModelProperty) -> list[Problem]:
    if not has_range(prop):
        return []
    found: list[Problem] = []
    limits: list[int | float] = []
    for side, text in (("minimum", prop.minimum), ("maximum", prop.maximum)):
        if not text:
            continue
        try:
            limits.append(parse_limit(prop, text))
        except ValueError as exc:
            found.append(Problem(f"{path}.{side}", f"{quoted(text)} {exc}"))
    if len(limits) == 2 and limits[0] > limits[1]:
        above = f"{prop.minimum} is more than the maximum of {prop.maximum}"
        found.append(Problem(f"{path}.minimum", above))
    return found
