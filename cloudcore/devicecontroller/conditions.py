"""The conditions Online and Synced, from what a Device's status says of its state and its twins. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from devicemodels.objects import Condition, StatusTwin

ONLINE, SYNCED = "Online", "Synced"
# A message is read in `kubectl describe`; the rest shows once these are mended.
MAX_NAMED = 5
_ONLINE = {
    "online": ("True", "Online"),
    "ok": ("True", "Ok"),
    "unhealthy": ("True", "Unhealthy"),
    "offline": ("False", "Offline"),
    "unknown": ("Unknown", "Unknown"),
}
# The worst first: it is the condition's reason.
_PHASES = ("Rejected", "Expired", "Drifted", "Pending")


class Seen(msgspec.Struct, rename="camel"):
    """What the status says already. Fields of a wrong type are somebody else's, and make it empty."""

    conditions: tuple[Condition, ...] = ()
    state: str = ""
    last_online_time: str = ""
    twins: tuple[StatusTwin, ...] = ()
    twins_generation: int = 0


class Asked(NamedTuple):
    """What the spec asks for. Shapes: desired: value by property."""

    generation: int
    node: str
    desired: Mapping[str, str]


def online(seen: Seen, *, node: str, node_lost: bool) -> Condition:
    """Return the condition Online."""
    if node_lost:
        was = f"was {seen.state} when it was heard last" if seen.state else "was not heard yet"
        message = f"node {node} is unreachable; the device {was}"
        return Condition(ONLINE, "Unknown", "NodeUnreachable", message)
    if not seen.state:
        return Condition(ONLINE, "Unknown", "NeverHeard", "the device was not heard yet")
    status, reason = _ONLINE.get(seen.state, ("Unknown", "Unknown"))
    since = f"; online last at {seen.last_online_time}" if seen.last_online_time else ""
    gone = since if status != "True" else ""
    return Condition(ONLINE, status, reason, f"the device is {seen.state}{gone}")


def synced(seen: Seen, asked: Asked, *, node_lost: bool) -> Condition | None:
    """Return the condition Synced; None if nothing is desired and never was."""
    phases = [twin for twin in seen.twins if twin.phase]
    waiting = _not_taken(seen, asked)
    if not phases and not waiting and not any(c.type == SYNCED for c in seen.conditions):
        return None
    if node_lost:
        missed = f"; it has not taken: {_listed(waiting)}" if waiting else ""
        message = f"node {asked.node} is unreachable{missed}"
        return Condition(SYNCED, "Unknown", "NodeUnreachable", message)
    if waiting:
        message = f"not taken by node {asked.node or '(none)'} yet: {_listed(waiting)}"
        return Condition(SYNCED, "False", "NotTaken", message)
    for reason in _PHASES:
        if any(twin.phase == reason for twin in phases):
            behind = [twin for twin in phases if twin.phase != "Applied"]
            return Condition(SYNCED, "False", reason, _named(behind))
    return Condition(SYNCED, "True", "Applied", f"desired values applied: {len(phases)}")


def merge(
    held: Sequence[Condition], wanted: Iterable[Condition | None], generation: int, now: str
) -> list[Condition]:
    """Return `held` with each of `wanted` in its place; the time moves if its status does.

    Units:   now: RFC 3339.
    """
    found = {c.type: c for c in held}
    for condition in wanted:
        if condition is None:
            continue
        before = found.get(condition.type)
        kept = before is not None and before.status == condition.status
        found[condition.type] = msgspec.structs.replace(
            condition,
            last_transition_time=before.last_transition_time if before and kept else now,
            observed_generation=generation,
        )
    return list(found.values())


def _not_taken(seen: Seen, asked: Asked) -> list[str]:
    """Return the properties whose desired value the node does not know yet."""
    if seen.twins_generation >= asked.generation:
        return []
    taken = {t.property_name: t.observed_desired.value for t in seen.twins if t.observed_desired}
    return [name for name, value in asked.desired.items() if taken.get(name) != value]


def _listed(names: Sequence[str]) -> str:
    said = ", ".join(names[:MAX_NAMED])
    hidden = len(names) - MAX_NAMED
    return f"{said} and {hidden} more" if hidden > 0 else said


def _named(behind: Sequence[StatusTwin]) -> str:
    said = "; ".join(_spoken(twin) for twin in behind[:MAX_NAMED])
    hidden = len(behind) - MAX_NAMED
    return f"{said}; and {hidden} more" if hidden > 0 else said


def _spoken(twin: StatusTwin) -> str:
    why = ": ".join(part for part in (twin.reason, twin.message) if part)
    return f"{twin.property_name}: {twin.phase}" + (f": {why}" if why else "")
