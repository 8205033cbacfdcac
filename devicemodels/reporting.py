"""Which of a property's values are worth taking on: on change, outside a dead band, not more often than. Pure."""

from __future__ import annotations

from enum import Enum

from devicemodels.objects import Device, ModelProperty, Reporting
from devicemodels.values import has_range, parse_limit, same_value
from devicemodels.writes import PropertyTwin


class Admission(Enum):
    """What to do with a value that a device reports."""

    TAKE = "take"
    SKIP = "skip"
    LATER = "later"  # unless a newer one comes before its time


def policy_of(device: Device, prop: ModelProperty) -> Reporting | None:
    """Return the policy of a property: the device's own, or else its model's."""
    return device.property(prop.name).reporting or prop.reporting


def admit(
    policy: Reporting | None, prop: ModelProperty, held: PropertyTwin | None, text: str, now_ms: int
) -> Admission:
    """Judge a reported value (`text`, valid for `prop`) against the one that was taken last.

    What a desired value waits for is always taken: an answer is no noise.
    """
    if policy is None or held is None or (last := held.reported) is None:
        return Admission.TAKE
    if held.phase in ("Pending", "Expired"):
        return Admission.TAKE
    if policy.on_change and same_value(prop, last.value, text):
        return Admission.SKIP
    if policy.dead_band and has_range(prop) and _within(policy.dead_band, prop, last.value, text):
        return Admission.SKIP
    if 0 <= now_ms - last.time_ms < policy.min_interval_milliseconds:
        return Admission.LATER
    return Admission.TAKE


def _within(band: str, prop: ModelProperty, last: str, text: str) -> bool:
    try:
        moved = abs(float(text) - float(last))
        return moved < parse_limit(prop, band)
    except ValueError:  # the model refuses such a band; here it suppresses nothing
        return False
