"""What the hub counts; Prometheus is somebody else's business."""

from __future__ import annotations

from typing import Protocol

from synccore.messages import Lane

UP, DOWN = "up", "down"  # from the edge, to the edge

# Codes of docs/protocol.md, section 6. A peer's own words must not become labels: they have no bound.
KNOWN_CODES = frozenset(
    {
        *(
            "NOT_READY",
            "NOT_NOW",
            "NODE_NAME_IN_USE",
            "STALE_DATABASE",
            "SUPERSEDED",
            "DRAINING",
            "FORBIDDEN",
        ),
        *("VERSION_MISMATCH", "UNEXPECTED_MESSAGE", "UNKNOWN_MESSAGE", "BAD_FRAME", "BAD_NUMBER"),
        *("TOO_LARGE", "SILENT", "LINK_LOST"),
    }
)


class HubCounters(Protocol):
    """What the hub counts."""

    def sent(self, kind: str, op: str, count: int) -> None:
        """Count deltas of `kind` ("" if only its hash is known) sent downstream."""

    def joined(self, *, in_sync: bool) -> None:
        """Count a node that joined."""

    def moved(
        self, direction: str, lane: Lane, frame_count: int, delta_count: int, size_bytes: int
    ) -> None:
        """Count what went over the wire in a lane."""

    def ended(self, code: str) -> None:
        """Count a stream that ended; `code` is one of `KNOWN_CODES`, or OTHER."""

    def set_aside(self, kind: str) -> None:
        """Count a record that a node could not keep."""

    def gauge(
        self, session_count: int, waiting_count: int, lags_s: dict[tuple[str, Lane], float]
    ) -> None:
        """Note how many nodes are joined, how many wait for their turn, and the lag per direction and lane.

        Units:   lags_s: age of the oldest frame that is not acknowledged.
        """
