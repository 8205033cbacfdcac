"""A loss as a record of its own, durable and sent like any other: from which sequence, to which, how many, why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from corekit.timestamps import rfc3339
from edgecore.metamanager.limits import Loss
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.records import Report
from synccore.messages import Lane, ObjectKey

KIND = "Loss"


class LossReporter:
    """Makes the reports of losses. One that still waits takes in the next of its lane and reason.

    Its name holds the first sequence that was lost, so a new one starts once the cloud has the last; the record
    of one key only grows, so sending it again changes nothing.
    """

    def __init__(self, outbox: OutboxRepository) -> None:
        self._outbox = outbox

    def reports(self, losses: Iterable[Loss], now_ms: int, wall_s: float) -> list[Report]:
        """Return the reports for `losses`. Units: now_ms: the database's own clock; wall_s: Unix seconds."""
        merged: dict[ObjectKey, dict[str, Any]] = {}
        for loss in losses:
            body = _body(loss, now_ms, wall_s)
            key, waiting = self._waiting(loss, merged)
            merged[key] = _sum(waiting, body) if waiting else body
        return [
            Report(key, "", msgspec.json.encode(body), Lane.CONTROL) for key, body in merged.items()
        ]

    def _waiting(
        self, loss: Loss, merged: dict[ObjectKey, dict[str, Any]]
    ) -> tuple[ObjectKey, dict[str, Any] | None]:
        prefix = f"{loss.lane.name.lower()}.{loss.reason}."
        for key, body in merged.items():
            if key.name.startswith(prefix):
                return key, body
        for row in self._outbox.of_kind(KIND):
            if row.report.key.name.startswith(prefix):
                return row.report.key, msgspec.json.decode(row.report.body)
        return ObjectKey(KIND, "", f"{prefix}{loss.first}"), None


def _body(loss: Loss, now_ms: int, wall_s: float) -> dict[str, Any]:
    # Rows carry the database's own clock, which no wrong date can move; people want the wall's.
    first_s, last_s = (
        wall_s - (now_ms - moment_ms) / 1000 if moment_ms else wall_s
        for moment_ms in (loss.first_ms, loss.last_ms)
    )
    return {
        "lane": loss.lane.name.lower(),
        "reason": loss.reason,
        "firstSequence": loss.first,
        "lastSequence": loss.last,
        "count": loss.rows,
        "bytes": loss.size_bytes,
        "firstTime": rfc3339(first_s),
        "lastTime": rfc3339(last_s),
    }


def _sum(waiting: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {
        **waiting,
        "firstSequence": min(waiting["firstSequence"], more["firstSequence"]),
        "lastSequence": max(waiting["lastSequence"], more["lastSequence"]),
        "count": waiting["count"] + more["count"],
        "bytes": waiting["bytes"] + more["bytes"],
        "lastTime": max(waiting["lastTime"], more["lastTime"]),
    }
