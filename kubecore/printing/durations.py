"""Durations as kubectl shows them: `45s`, `3m12s`, `5h10m`, `12d`."""

from __future__ import annotations

from corekit.timestamps import parse_rfc3339


def human_duration(seconds: float) -> str:
    """Return a duration with two to three significant figures."""
    whole = int(seconds)
    if whole < 0:
        return "<invalid>" if whole < -1 else "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _days(hours)


def age(timestamp: object, now_s: float) -> str:
    """Return how long ago a Kubernetes time was, `<unknown>` if it is absent."""
    if not isinstance(timestamp, str) or not timestamp:
        return "<unknown>"
    try:
        return human_duration(now_s - parse_rfc3339(timestamp))
    except ValueError:
        return "<invalid>"


def _days(hours: int) -> str:
    days = hours // 24
    if hours < 192:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    return _pair(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    tail = f"{small}{small_unit}" if small else ""
    return f"{large}{large_unit}{tail}"
