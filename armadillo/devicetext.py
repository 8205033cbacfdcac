"""What a Device's status says, read for people: rows of tables, and what became of a write. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from corekit.timestamps import parse_rfc3339

Json = dict[str, Any]
FINAL = ("Applied", "Rejected", "Expired", "Drifted")


class Outcome(NamedTuple):
    """What became of one property's write. Shapes: phase: empty while nothing is known yet."""

    name: str
    phase: str
    why: str = ""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, three spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ("   ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in padded)


def twin_rows(device: Json, names: Sequence[str], now_s: float) -> list[tuple[str, ...]]:
    """Return a header, then one row for each property of a Device, or for each of `names`."""
    rows: list[tuple[str, ...]] = [("PROPERTY", "DESIRED", "REPORTED", "AGE", "PHASE", "REASON")]
    twins = {t["propertyName"]: t for t in _status(device).get("twins") or []}
    desired = {
        p["name"]: p["desired"]["value"]
        for p in device.get("spec", {}).get("properties") or []
        if p.get("desired")
    }
    for name in names or [*twins, *(n for n in desired if n not in twins)]:
        twin = twins.get(name, {})
        wanted = desired.get(name, (twin.get("observedDesired") or {}).get("value", ""))
        reported = twin.get("reported") or {}
        age = _age_of(reported.get("metadata", {}).get("timestamp", ""), now_s)
        cells = (name, wanted, reported.get("value", ""), age, twin.get("phase", ""), _why(twin))
        rows.append(tuple(cell.replace("\n", " ") for cell in cells))
    return rows


def device_rows(
    devices: Sequence[Json], now_s: float, seen_ms: Mapping[str, int] | None = None
) -> list[tuple[str, ...]]:
    """Return a header, then one row for each Device: where it is, how it is, what it has not taken yet.

    Shapes:  seen_ms: when the value stream has seen devices ("namespace/name") last; their statuses lag behind it.
    """
    header = ("NAMESPACE", "NAME", "NODE", "STATE", "LAST SEEN", "LAG", "UNSYNCED")
    rows: list[tuple[str, ...]] = [header]
    for device in devices:
        status = _status(device)
        behind = [t for t in status.get("twins") or [] if t.get("phase", "Applied") != "Applied"]
        since = [s for t in behind if (s := _seconds(t.get("since", ""))) is not None]
        meta = device["metadata"]
        name = f"{meta.get('namespace', '')}/{meta['name']}"
        told = [_seconds(status.get("lastOnlineTime", ""))]
        told += [seen_ms[name] / 1000] if seen_ms and name in seen_ms else []
        seen = max((time_s for time_s in told if time_s is not None), default=None)
        rows.append(
            (
                meta.get("namespace", ""),
                meta["name"],
                device.get("spec", {}).get("nodeName", "") or "-",
                _state(status),
                spoken_age(now_s - seen) if seen is not None else "never",
                spoken_age(now_s - min(since)) if since else "0s",
                ",".join(t["propertyName"] for t in behind) or "-",
            )
        )
    return rows


def outcomes(device: Json, names: Sequence[str], generation: int) -> list[Outcome]:
    """Return what became of the writes that made the Device's spec of `generation`."""
    status = _status(device)
    accepted: Json = next(
        (c for c in status.get("conditions") or [] if c.get("type") == "Accepted"), {}
    )
    if accepted.get("observedGeneration", 0) >= generation and accepted.get("status") == "False":
        why = f"{accepted.get('reason', '')}: {accepted.get('message', '')}"
        return [Outcome(name, "Rejected", why) for name in names]
    if status.get("twinsGeneration", 0) < generation:
        return [Outcome(name, "", "the node has not taken it yet") for name in names]
    twins = {t["propertyName"]: t for t in status.get("twins") or []}
    found = (twins.get(name, {}) for name in names)
    return [Outcome(n, t.get("phase", ""), _why(t)) for n, t in zip(names, found, strict=True)]


def spoken_age(age_s: float) -> str:
    """Return a time span as kubectl writes ages, of one unit."""
    for unit, size_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if age_s >= 2 * size_s:
            return f"{int(age_s // size_s)}{unit}"
    return f"{max(0, int(age_s))}s"


def _status(device: Json) -> Json:
    status: Json = device.get("status") or {}
    return status


def _state(status: Json) -> str:
    lost = any(
        c.get("type") == "Online" and c.get("reason") == "NodeUnreachable"
        for c in status.get("conditions") or []
    )
    return "node lost" if lost else status.get("state", "") or "unknown"


def _why(twin: Json) -> str:
    return ": ".join(part for part in (twin.get("reason"), twin.get("message")) if part)


def _age_of(timestamp_ms: str, now_s: float) -> str:
    return spoken_age(now_s - int(timestamp_ms) / 1000) if timestamp_ms.isdecimal() else ""


def _seconds(text: str) -> float | None:
    try:
        return parse_rfc3339(text)
    except ValueError:
        return None
