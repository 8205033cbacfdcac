"""What becomes of one desired value: asked, taken by the edge, then applied, rejected or expired; and drift. Pure.

    asked ──► Pending ──► Applied ──► Drifted (a hand on the switch) ──► Applied
      │          ├──────► Rejected (by the device)       a new desired value begins again at `asked`
      └► Rejected└──────► Expired ──► Applied            (it is told what it missed when it comes back)

A property without a desired value has no phase. Every transition has a time and, where a person would ask why, a reason.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct, structs

from devicemodels.objects import ConflictRule, ModelProperty
from devicemodels.values import same_value

# A lamp answers in milliseconds, a valve in some seconds; who needs longer says so in `writeTimeoutSeconds`.
DEFAULT_TIMEOUT_S = 30
# Of a refused value that much is kept, to know it again; a value may have 64 KiB.
KEPT_CHARS = 256
# Words of a device, or of its driver, that go into a status.
MAX_MESSAGE_CHARS = 256

Phase = Literal["", "Pending", "Applied", "Rejected", "Expired", "Drifted"]

INVALID, READ_ONLY = "InvalidValue", "ReadOnly"
LOCAL_CHANGE, NEWER_CHANGE = "LocalChangeWins", "LocalChangeIsNewer"
REFUSED, NO_ANSWER, OFFLINE = "DeviceRefused", "NoAnswer", "DeviceOffline"
AT_DEVICE = "ChangedAtDevice"
# Rejected here, before the device was asked: may be taken later, when the model allows it.
_BEFORE_DEVICE = (INVALID, READ_ONLY)


class Stamped(Struct, frozen=True):
    """A value and when the edge got it."""

    value: str
    time_ms: int


class PropertyTwin(Struct, frozen=True, omit_defaults=True):
    """The twin of one property. The counts are what MQTT calls versions: cloud's and edge's changes.

    Shapes:  asked_ms: when the asker says it asked (`desired.metadata.timestamp`); 0: it does not say.
             contested: it was changed here while the cloud could not see it.
    """

    desired: Stamped | None = None
    observed_desired: Stamped | None = None
    reported: Stamped | None = None
    desired_count: int = 0
    local_count: int = 0
    reported_count: int = 0
    asked_ms: int = 0
    phase: Phase = ""
    reason: str = ""
    message: str = ""
    since_ms: int = 0
    contested: bool = False


class Asked(NamedTuple):
    """What the Device object asks of one property."""

    value: str
    asked_ms: int = 0


def ask(before: PropertyTwin, asked: Asked | None, rule: ConflictRule, now_ms: int) -> PropertyTwin:
    """Take what the cloud asks for, unless a change made here meanwhile wins by the conflict rule.

    The same value asked again at the same time changes nothing: a local one stays in force.
    """
    if asked is None:
        return _withdraw(before, now_ms)
    if _known(before, asked):
        return before
    if before.contested and rule != "Cloud":
        local_ms = _local_ms(before)
        if rule == "Edge" or (asked.asked_ms and asked.asked_ms < local_ms):
            reason = LOCAL_CHANGE if rule == "Edge" else NEWER_CHANGE
            message = f"{asked.value[:KEPT_CHARS]!r} was asked for while it was changed here"
            return _refuse(before, asked, reason, message, now_ms)
    stamped = Stamped(asked.value, now_ms)
    taken = structs.replace(
        before,
        desired=stamped,
        observed_desired=stamped,
        desired_count=before.desired_count + 1,
        asked_ms=asked.asked_ms,
        contested=False,
    )
    return _into(taken, "Pending", now_ms)


def refuse_asked(
    before: PropertyTwin, asked: Asked, reason: str, message: str, now_ms: int
) -> PropertyTwin:
    """Note that the cloud asks for what the model forbids; what was taken before stays in force."""
    kept = Asked(asked.value[:KEPT_CHARS], asked.asked_ms)
    held = before.desired
    if held and held.value == kept.value and (before.reason, before.message) == (reason, message):
        return before
    return _refuse(before, kept, reason, message, now_ms)


def set_locally(
    before: PropertyTwin, value: str, now_ms: int, *, linked: bool, stamped: Stamped
) -> PropertyTwin:
    """Take a desired value from a program at the edge; in force until the cloud's next change."""
    if stamped is before.observed_desired and before.phase not in ("Rejected", "Expired"):
        return before
    taken = structs.replace(
        before,
        observed_desired=Stamped(value, now_ms),
        local_count=before.local_count + 1,
        contested=before.contested or not linked,
    )
    return _into(taken, "Pending", now_ms)


def answered(
    before: PropertyTwin, prop: ModelProperty, rule: ConflictRule, now_ms: int, *, linked: bool
) -> PropertyTwin:
    """Draw the conclusion from a report that `before` holds already."""
    want, said = before.observed_desired, before.reported
    if want is None or said is None:
        return before
    if before.phase == "Rejected" and before.reason not in (REFUSED,):
        return before  # the device has nothing to do with it
    if same_value(prop, want.value, said.value):
        return before if before.phase == "Applied" else _into(before, "Applied", now_ms)
    if before.phase == "Applied":
        ends = "and is told again" if rule == "Cloud" else "and is left so"
        message = f"is {said.value[:KEPT_CHARS]!r} since then, {ends} (conflict: {rule})"
        drifted = structs.replace(before, contested=before.contested or not linked)
        return _into(drifted, "Drifted", now_ms, AT_DEVICE, message)
    return before


def refused_by_device(before: PropertyTwin, message: str, now_ms: int) -> PropertyTwin:
    """Note that the device, or its driver, says that it will not take the value."""
    if before.observed_desired is None:
        return before
    said = message[:MAX_MESSAGE_CHARS] or "the device does not say why"
    if before.phase == "Rejected" and (before.reason, before.message) == (REFUSED, said):
        return before
    return _into(before, "Rejected", now_ms, REFUSED, said)


def expire(before: PropertyTwin, timeout_s: int, now_ms: int, *, offline: bool) -> PropertyTwin:
    """Note that nothing came back in time; the device is told all the same when it comes back."""
    timeout_s = timeout_s or DEFAULT_TIMEOUT_S
    if before.phase != "Pending" or now_ms - before.since_ms < timeout_s * 1000:
        return before
    if offline:
        message = f"the device was offline for {timeout_s} s; it is told when it comes back"
        return _into(before, "Expired", now_ms, OFFLINE, message)
    return _into(before, "Expired", now_ms, NO_ANSWER, f"no answer within {timeout_s} s")


def forget(before: PropertyTwin) -> PropertyTwin:
    """Return the twin of a property that somebody at the edge has deleted: no values, and counts that go on."""
    return PropertyTwin(
        desired_count=before.desired_count,
        local_count=before.local_count + (before.observed_desired is not None),
        reported_count=before.reported_count + (before.reported is not None),
    )


def is_empty(held: PropertyTwin) -> bool:
    """Tell whether there is nothing to show of a property: it was deleted, or never had a value."""
    return held.observed_desired is None and held.reported is None and not held.phase


def must_be_told(held: PropertyTwin, prop: ModelProperty, rule: ConflictRule) -> bool:
    """Tell whether the device has to take a value still."""
    want, said = held.observed_desired, held.reported
    if want is None:
        return False
    if held.phase == "Rejected" and held.reason not in _BEFORE_DEVICE:
        return False
    if held.phase == "Drifted" and rule != "Cloud":
        return False
    return said is None or not same_value(prop, want.value, said.value)


def _known(before: PropertyTwin, asked: Asked) -> bool:
    if before.desired is None or before.reason in _BEFORE_DEVICE:
        return False
    same = before.desired.value == asked.value
    return same and asked.asked_ms in (0, before.asked_ms)


def _withdraw(before: PropertyTwin, now_ms: int) -> PropertyTwin:
    if before.desired is None:
        return before
    gone = structs.replace(before, desired=None, observed_desired=None, asked_ms=0, contested=False)
    return _into(gone, "", now_ms)


def _refuse(
    before: PropertyTwin, asked: Asked, reason: str, message: str, now_ms: int
) -> PropertyTwin:
    refused = structs.replace(
        before,
        desired=Stamped(asked.value, now_ms),
        desired_count=before.desired_count + 1,
        asked_ms=asked.asked_ms,
        contested=False,
    )
    return _into(refused, "Rejected", now_ms, reason, message)


def _local_ms(held: PropertyTwin) -> int:
    """Return when it was last changed here, by a program or at the device."""
    return max(s.time_ms for s in (held.observed_desired, held.reported, Stamped("", 0)) if s)


def _into(
    held: PropertyTwin, phase: Phase, now_ms: int, reason: str = "", message: str = ""
) -> PropertyTwin:
    since_ms = now_ms if phase else 0
    return structs.replace(held, phase=phase, reason=reason, message=message, since_ms=since_ms)
