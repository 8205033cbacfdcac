"""What the store counts and measures, on its way to `edgecore.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from edgecore import metrics
from edgecore.metamanager.limits import Loss
from edgecore.metamanager.outbox import Held, OutboxRepository
from synccore.messages import Lane


class LaneGauge(NamedTuple):
    """What waits in one lane."""

    lane: Lane
    log: Held
    state: Held
    oldest_ms: int | None


def measure(connection: Connection) -> list[LaneGauge]:
    """Return what waits in each lane; on the reader's thread."""
    outbox = OutboxRepository(connection)
    return [
        LaneGauge(lane, outbox.log_held(lane), outbox.state_held(lane), outbox.oldest_ms(lane))
        for lane in Lane
    ]


def show(found: list[LaneGauge], now_ms: int) -> None:
    """Set the gauges."""
    for lane, log, state, oldest_ms in found:
        name = lane.name.lower()
        for sort, held in (("log", log), ("state", state)):
            metrics.outbox_rows.set(held.rows, name, sort)
            metrics.outbox_bytes.set(held.size_bytes, name, sort)
        age_s = 0.0 if oldest_ms is None else max(now_ms - oldest_ms, 0) / 1000
        metrics.outbox_oldest.set(age_s, name)


def wrote(size: int, failed: int) -> None:
    """Count one transaction of `size` units of work, `failed` of which were not stored."""
    if size > failed:
        metrics.group_size.observe(size)
    metrics.commits.inc(size - failed)
    metrics.refused_commits.inc(failed)


def lost(losses: Sequence[Loss]) -> None:
    """Count losses."""
    for loss in losses:
        metrics.losses.inc(loss.rows, loss.lane.name.lower(), loss.reason)
