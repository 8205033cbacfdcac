"""One connection's worth of work at the edge: move messages between the session, the stream and the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from corekit.errors import ProtocolError
from corekit.logs import log_change
from edgecore.edgehub.applying import Applier, EventOf
from edgecore.edgehub.stream import SyncStream
from edgecore.records import Commit, OutboxRow, Report
from synccore.changes import ChangeIds
from synccore.codec import encode_batch
from synccore.edge_session import Converged, EdgeSession, Joined, ReportsWanted
from synccore.index import RecordIndex
from synccore.messages import Delta, Lane, ObjectKey, State, TunnelOpen, TunnelOpened
from synccore.session import Acknowledged, Received, Tunnelled

logger = logging.getLogger(__name__)

# Rows read from the outbox at once: a full frame of small reports.
_ROWS_PER_FRAME = 512
# A Close is worth this long to a peer that does not read.
_CLOSE_TIMEOUT_S = 1.0
# Acknowledgements that wait for their commit; beyond it nothing new is sent, so that a slow disk bounds memory.
_MAX_TO_APPLY = 128


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
        event_of: EventOf | None = None,
    ) -> None:
        self._session, self._stream, self._store, self._clock = session, stream, store, clock
        self._feed, self._applier = feed, Applier(store, event_of)
        self._on_joined, self._on_reports_wanted = on_joined, on_reports_wanted
        self._to_send, self._to_fill = asyncio.Event(), asyncio.Event()
        # Frames and acknowledgements wait here for their commit. Bounded, though not by itself, or a slow disk
        # would stop the pings behind it: the session refuses more than a window of uncommitted frames per lane,
        # and `_fill` sends nothing while much waits here.
        self._to_apply: asyncio.Queue[Received | Acknowledged] = asyncio.Queue()
        self._change_ids = ChangeIds()
        self._volatile: dict[ObjectKey, Report] = {}
        self._sent_up_to = dict.fromkeys(Lane, 0)
        loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._welcomed: asyncio.Future[None] = loop.create_future()
        self.joined = False

    @property
    def in_sync(self) -> bool:
        """Whether every difference has arrived."""
        return self._session.state is State.LIVE

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
        try:
            while True:
                message = await self._stream.receive()
                events = self._session.receive(message, self._clock())
                self._to_send.set()
                for event in events:
                    await self._handle(event)
        except ProtocolError as exc:
            self._session.close(exc.code, str(exc))
            self._to_send.set()
            await asyncio.wait([self._closed], timeout=_CLOSE_TIMEOUT_S)  # the Close that says why
            raise

    async def _handle(self, event: object) -> None:
        match event:
            case Received() | Acknowledged():
                self._to_apply.put_nowait(event)
            case Joined(in_sync=in_sync, session_id=session_id):
                self.joined = True
                self._welcomed.set_result(None)
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
                await self._acknowledge(event)
                continue
            rejected = await self._applier.apply(event.deltas)  # durable first,
            if self._session.state is State.CLOSED:
                continue
            for delta, reason in rejected:
                self._session.rejected(event.lane, delta, reason)
            self._session.committed(event.lane, event.number)  # acknowledged second
            self._to_send.set()

    async def _acknowledge(self, event: Acknowledged) -> None:
        rows = [row for token in event.tokens for row in token]
        if rows:
            await self._store.acknowledge(event.lane, rows)
        for key, version in rows:
            log_change(logger, "acknowledged", key, version)
        self._to_fill.set()

    async def _watch_outbox(self) -> None:
        while True:
            await self._feed.changed()
            self._to_fill.set()

    async def _fill(self) -> None:
        while True:
            await self._to_fill.wait()
            self._to_fill.clear()
            if self.joined and self._to_apply.qsize() < _MAX_TO_APPLY:
                for lane in Lane:
                    await self._fill_lane(lane)

    async def _fill_lane(self, lane: Lane) -> None:
        fresh = [r for r in self._volatile.values() if r.lane is lane]
        if fresh and self._session.room(lane) > 0:
            for report in fresh:
                del self._volatile[report.key]
            self._queue(lane, [self._volatile_delta(report) for report in fresh], ())
        while self._session.room(lane) > 0:
            # Small frames on a slow link: what is urgent goes between two of them.
            rows = await self._store.unsent(
                lane, self._sent_up_to[lane], _ROWS_PER_FRAME, self._session.frame_bytes
            )
            if not rows or self._session.room(lane) <= 0:
                return
            token = tuple((row.report.key, row.version) for row in rows)
            self._queue(lane, [_delta(row) for row in rows], token)
            self._sent_up_to[lane] = rows[-1].version

    def _queue(self, lane: Lane, deltas: Sequence[Delta], token: object) -> None:
        self._session.send(lane, encode_batch(deltas), token)
        for delta in deltas:
            log_change(logger, "sent", delta.key, delta.change_id)
        self._to_send.set()

    def _volatile_delta(self, report: Report) -> Delta:
        change_id = self._change_ids.next(int(time.time() * 1000))
        return Delta(report.op, report.key, report.uid, 0, body=report.body, change_id=change_id)

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while messages := self._session.outgoing(self._clock()):
                await self._stream.send(messages)
                self._to_fill.set()  # a lane may have room again
            if self._session.state is State.CLOSED and not self._closed.done():
                self._closed.set_result(None)

    async def _tick(self) -> None:
        while True:
            self._session.tick(self._clock())
            if self._session.has_outgoing:
                self._to_send.set()
            # The Welcome brings another heartbeat, which counts from then on.
            rest_s = self._session.heartbeat_s / 8
            if self.joined:
                await asyncio.sleep(rest_s)
            else:
                await asyncio.wait([self._welcomed], timeout=rest_s)


def _delta(row: OutboxRow) -> Delta:
    report, version = row
    # The version is the change's name in both logs: grep finds one change on its whole way.
    return Delta(report.op, report.key, report.uid, version, body=report.body, change_id=version)
