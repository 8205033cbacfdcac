"""One connection's worth of work at the edge: move messages between the session, the stream and the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from corekit.failpoints import failpoint
from edgecore.edgehub.stream import SyncStream
from edgecore.records import Commit, OutboxRow, Report
from synccore.codec import encode_batch
from synccore.edge_session import Converged, EdgeSession, Joined, ReportsWanted
from synccore.index import RecordIndex
from synccore.messages import (
    BATCH_TARGET_BYTES,
    Delta,
    Lane,
    ObjectKey,
    Op,
    TunnelOpen,
    TunnelOpened,
)
from synccore.session import Acknowledged, Received, Tunnelled

logger = logging.getLogger(__name__)

# Rows read from the outbox at once: a full frame of small reports.
_ROWS_PER_FRAME = 512


class LaneFeed(Protocol):
    """Lanes whose outbox changed since the last call."""

    async def changed(self) -> set[Lane]:
        """Wait for at least one."""


class HubStore(Protocol):
    """What the hub needs of metamanager."""

    database_id: bytes
    index: RecordIndex

    async def commit(self, commit: Commit) -> None:
        """Return once durable."""

    async def unsent(
        self, lane: Lane, after: int, limit: int, max_bytes: int
    ) -> Sequence[OutboxRow]:
        """Return outbox rows of `lane` newer than version `after`, oldest first."""

    async def acknowledge(self, lane: Lane, rows: Sequence[tuple[ObjectKey, int]]) -> None:
        """Delete the rows that still have that version."""

    def outbox_feed(self) -> LaneFeed:
        """Return a feed of outbox changes."""


class Link:
    """Serves one stream until it breaks. Tasks: receive, apply, fill, send, tick; all end together."""

    def __init__(
        self,
        session: EdgeSession,
        stream: SyncStream,
        store: HubStore,
        feed: LaneFeed,
        *,
        clock: Callable[[], float],
        on_joined: Callable[[], None],
        on_reports_wanted: Callable[[], None],
    ) -> None:
        self._session, self._stream, self._store, self._clock = session, stream, store, clock
        self._feed = feed
        self._on_joined, self._on_reports_wanted = on_joined, on_reports_wanted
        self._to_send, self._to_fill = asyncio.Event(), asyncio.Event()
        # Received frames wait here for their commit. Bounded: the session refuses more than its window of
        # uncommitted frames per lane, and an acknowledgement stands for at least one frame in flight.
        self._to_apply: asyncio.Queue[Received | Acknowledged] = asyncio.Queue(maxsize=64)
        self._volatile: dict[ObjectKey, Report] = {}
        self._sent_up_to = dict.fromkeys(Lane, 0)
        self.joined = False

    def offer(self, report: Report) -> None:
        """Send `report` when its lane has room, newest per key."""
        self._volatile[report.key] = report
        self._to_fill.set()

    async def serve(self) -> None:
        """Serve until the stream breaks. Raises: ExceptionGroup with the reason in it."""
        self._to_send.set()
        async with asyncio.TaskGroup() as group:
            for task in (self._receive, self._apply, self._fill, self._watch_outbox, self._send):
                group.create_task(task(), name=f"edgehub{task.__name__}")
            group.create_task(self._tick(), name="edgehub_tick")

    async def _receive(self) -> None:
        while True:
            message = await self._stream.receive()
            try:
                events = self._session.receive(message, self._clock())
            except Exception:
                await self._stream.send(self._session.outgoing())  # the Close that says why
                raise
            self._to_send.set()
            for event in events:
                await self._handle(event)

    async def _handle(self, event: object) -> None:
        match event:
            case Received() | Acknowledged():
                await self._to_apply.put(event)
            case Joined(in_sync=in_sync, session_id=session_id):
                self.joined = True
                self._on_joined()
                self._to_fill.set()
                logger.info(
                    "edgehub: joined cloudcore, %s",
                    "in sync" if in_sync else "comparing inventories",
                    extra={"session": session_id, "records": len(self._store.index)},
                )
            case Converged():
                logger.info("edgehub: in sync", extra={"records": len(self._store.index)})
            case ReportsWanted():
                logger.info("edgehub: the cluster had given this node up, reporting everything")
                self._on_reports_wanted()
            case Tunnelled(message=TunnelOpen(stream_id=stream_id)):
                refusal = TunnelOpened(stream_id, error="byte streams are not served yet")
                self._session.tunnel(refusal)
                self._to_send.set()

    async def _apply(self) -> None:
        while True:
            event = await self._to_apply.get()
            if isinstance(event, Acknowledged):
                rows = [row for token in event.tokens for row in token]
                if rows:
                    failpoint("edgehub.before_forget")
                    await self._store.acknowledge(event.lane, rows)
                    failpoint("edgehub.after_forget")
                self._to_fill.set()
                continue
            failpoint("edgehub.before_commit")
            await self._store.commit(Commit(deltas=event.deltas))  # durable first,
            failpoint("edgehub.before_ack")
            self._session.committed(event.lane, event.number)  # acknowledged second
            failpoint("edgehub.after_ack")
            self._to_send.set()

    async def _watch_outbox(self) -> None:
        while True:
            await self._feed.changed()
            self._to_fill.set()

    async def _fill(self) -> None:
        while True:
            await self._to_fill.wait()
            self._to_fill.clear()
            if self.joined:
                for lane in Lane:
                    await self._fill_lane(lane)

    async def _fill_lane(self, lane: Lane) -> None:
        fresh = [r for r in self._volatile.values() if r.lane is lane]
        if fresh and self._session.room(lane) > 0:
            for report in fresh:
                del self._volatile[report.key]
            deltas = [Delta(r.op, r.key, r.uid, 0, body=r.body) for r in fresh]
            self._session.send(lane, encode_batch(deltas), ())
            self._to_send.set()
        while self._session.room(lane) > 0:
            rows = await self._store.unsent(
                lane, self._sent_up_to[lane], _ROWS_PER_FRAME, BATCH_TARGET_BYTES
            )
            if not rows:
                return
            deltas = [_delta(row) for row in rows]
            token = tuple((row.report.key, row.version) for row in rows)
            self._session.send(lane, encode_batch(deltas), token)
            self._sent_up_to[lane] = rows[-1].version
            self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            outgoing = self._session.outgoing()
            failpoint("edgehub.before_send")
            await self._stream.send(outgoing)
            failpoint("edgehub.after_send")

    async def _tick(self) -> None:
        while True:
            self._session.tick(self._clock())
            self._to_send.set()
            await asyncio.sleep(self._session.heartbeat_s / 8)


def _delta(row: OutboxRow) -> Delta:
    report, version = row
    # The version is the change's name in both logs: grep finds one change on its whole way.
    # It is a log entry's sequence too: entries of one key are told apart by it alone.
    sequence = version if report.op is Op.APPEND else 0
    return Delta(report.op, report.key, report.uid, version, sequence, report.body, version)
