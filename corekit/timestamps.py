"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(moment_s: float) -> str:
    """Return Unix seconds as `2026-11-23T08:00:00Z` (Kubernetes `Time`)."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(moment_s: float) -> str:
    """Return Unix seconds as `2026-11-23T08:00:00.000000Z` (Kubernetes `MicroTime`)."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_rfc3339(text: str) -> float:
    """Return the Unix seconds of a Kubernetes `Time` or `MicroTime`.

    Raises:  ValueError: not such a time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()
