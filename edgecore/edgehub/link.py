"""One connection's worth of work at the edge: move messages between the session, the stream and the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from corekit.backoff import Backoff
from corekit.errors import ProtocolError, StoreError, TransportError
from corekit.failpoints import failpoint
from corekit.logs import log_change
from edgecore import metrics
from edgecore.edgehub.applying import Applier, EventOf, ToApply, take_together
from edgecore.edgehub.blocks import MEMORY_BLOCK, BlockSource, first_rows, is_sample_block
from edgecore.edgehub.horizon import Horizon
from edgecore.edgehub.stream import SyncStream
from edgecore.edgehub.streams import EdgeStreams
from edgecore.records import Commit, OutboxRow, Report
from edgecore.streams import StreamHandler, serve_nothing
from synccore.asking import OK, TOO_LATE, Answered, AskError
from synccore.changes import ChangeIds
from synccore.codec import encode_batch
from synccore.edge_session import Converged, EdgeSession, Joined, ReportsWanted
from synccore.index import RecordIndex
from synccore.messages import ASK_DEADLINE_S, Delta, Lane, ObjectKey, Op, State
from synccore.samples import with_sequence
from synccore.session import Acknowledged, Received
from synccore.tunnels import StreamCame, StreamGone, StreamRoom, StreamWanted
from synccore.wire import printable

logger = logging.getLogger(__name__)

# Rows read from the outbox at once: a full frame of small reports.
_ROWS_PER_FRAME = 512
# A full disk is looked at again this often: soon after somebody made room, seldom enough not to wear it.
_DISK_BACKOFF_S = (0.2, 5.0)
# A Close is worth this long to a peer that does not read.
_CLOSE_TIMEOUT_S = 1.0
# Acknowledgements that wait for their commit; beyond it nothing new is sent, so that a slow disk bounds memory.
_MAX_TO_APPLY = 128


class LaneFeed(Protocol):
    """Lanes whose outbox changed since the last call."""

    async def changed(self) -> set[Lane]:
        """Wait for at least one."""


class RebuiltFeed(Protocol):
    """Tells when the store's database was replaced."""

    async def changed(self) -> set[str]:
        """Wait for that."""


class StoreRebuiltError(TransportError):
    """The database was replaced underneath this session: what the cloud knows of it is wrong, so join again."""

    def __init__(self) -> None:
        super().__init__("the database was rebuilt")


class LinkEndedError(TransportError):
    """The link ended while somebody waited for an answer."""

    def __init__(self) -> None:
        super().__init__("the link ended")


class HubStore(Protocol):
    """What the hub needs of metamanager."""

    index: RecordIndex

    @property
    def database_id(self) -> bytes:
        """16 bytes that name the database; a copy has the same."""

    @property
    def fork(self) -> int:
        """The counter at the first start since the cloud last welcomed this database."""

    @property
    def run_id(self) -> str:
        """Names this opening of the database."""

    @property
    def must_report_all(self) -> bool:
        """Whether reports were lost, so that every state has to be reported again."""

    async def commit(self, commit: Commit) -> None:
        """Return once durable."""

    async def local(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored with `Commit.local`."""

    async def unsent(
        self, lane: Lane, after: int, limit: int, max_bytes: int
    ) -> Sequence[OutboxRow]:
        """Return outbox rows of `lane` newer than version `after`, oldest first."""

    async def acknowledge(self, lane: Lane, rows: Sequence[tuple[ObjectKey, int]]) -> None:
        """Delete the rows that still have that version."""

    def outbox_feed(self) -> LaneFeed:
        """Return a feed of outbox changes."""

    def rebuilt_feed(self) -> RebuiltFeed:
        """Return a feed that tells when the database was replaced underneath."""

    async def welcomed(self) -> None:
        """Note, durably, that the cloud took this database as the node's."""

    async def reported_all(self) -> None:
        """Note that everybody was asked to report again."""

    async def start_epoch(self) -> None:
        """Forget the states that wait: this database is an old copy."""

    def converged(self) -> None:
        """Note that the cloud has sent all that was missing."""


class Link:
    """Serves one stream until it breaks. Tasks: receive, apply, fill, send, tick; all end together."""

    def __init__(
        self,
        session: EdgeSession,
        stream: SyncStream,
        store: HubStore,
        feed: LaneFeed,
        rebuilt: RebuiltFeed,
        samples: BlockSource,
        *,
        clock: Callable[[], float],
        on_joined: Callable[[], None],
        on_reports_wanted: Callable[[], None],
        event_of: EventOf | None = None,
        streams: StreamHandler = serve_nothing,
        horizon: Horizon | None = None,
    ) -> None:
        self._session, self._stream, self._store, self._clock = session, stream, store, clock
        self._feed, self._rebuilt, self._samples = feed, rebuilt, samples
        self._horizon = horizon or Horizon(store)
        self._applier = Applier(store, event_of, self._horizon)
        self._on_joined, self._on_reports_wanted = on_joined, on_reports_wanted
        self._to_send, self._to_fill = asyncio.Event(), asyncio.Event()
        # Frames and acknowledgements wait here for their commit. Bounded, though not by itself, or a slow disk
        # would stop the pings behind it: the session refuses more than a window of uncommitted frames per lane,
        # and `_fill` sends nothing while much waits here.
        self._to_apply: asyncio.Queue[ToApply] = asyncio.Queue()
        self._change_ids = ChangeIds()
        self._streams = EdgeStreams(session, streams, self._to_send.set)
        self._volatile: dict[ObjectKey, Report] = {}
        self._asked: dict[int, asyncio.Future[Answered]] = {}  # bounded by the session
        self._blocks_first = False
        self._sent_up_to = dict.fromkeys(Lane, 0)
        loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._welcomed: asyncio.Future[None] = loop.create_future()
        self.joined = False

    @property
    def in_sync(self) -> bool:
        """Whether every difference has arrived, and who has something to say may say it."""
        return self.joined and self._session.state is State.LIVE

    @property
    def spread_s(self) -> float:
        """Over how long to spread the next dial if this link is lost."""
        return self._session.spread_s

    def offer(self, report: Report) -> None:
        """Send `report` when its lane has room, newest per key."""
        self._volatile[report.key] = report
        self._to_fill.set()

    async def ask(self, kind: str, body: bytes) -> bytes:
        """Return the cloud's answer; only once joined. Raises: AskError."""
        if self._session.state is State.CLOSED:
            raise AskError(kind, 0, "the link is ending")
        number = self._session.ask(kind, body)
        self._to_send.set()
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            async with asyncio.timeout(ASK_DEADLINE_S):
                answer = await answered
        except TimeoutError:
            raise AskError(kind, TOO_LATE, f"no answer within {ASK_DEADLINE_S:.0f} s") from None
        except LinkEndedError as exc:
            raise AskError(kind, 0, "the link ended before the answer") from exc
        finally:
            del self._asked[number]
            self._session.forget_ask(number)
        if answer.status != OK:
            raise AskError(kind, answer.status, printable(answer.body.decode(errors="replace")))
        return answer.body

    async def serve(self) -> None:
        """Serve until the stream breaks. Raises: ExceptionGroup with the reason in it."""
        try:
            await self._serve()
        finally:
            for asked in self._asked.values():
                if not asked.done():
                    asked.set_exception(LinkEndedError())

    async def _serve(self) -> None:
        self._to_send.set()
        self._samples.restart()
        self._samples.on_waiting(self._to_fill.set)
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = (self._receive, self._apply, self._fill, self._send)
            for task in (*tasks, self._watch_outbox, self._watch_store):
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
            case Joined(in_sync=in_sync, session_id=session_id, horizon=horizon):
                # Before the first report: a restored copy must be known by it.
                await self._note(self._store.welcomed)
                await self._note(partial(self._horizon.welcomed, horizon))
                self.joined = True
                self._welcomed.set_result(None)
                self._on_joined()
                self._to_fill.set()
                metrics.joins.inc(1, "in_sync" if in_sync else "resync")
                if in_sync:
                    self._store.converged()
                if self._store.must_report_all:
                    self._on_reports_wanted()
                    await self._note(self._store.reported_all)
                logger.info(
                    "edgehub: joined cloudcore, %s",
                    "in sync" if in_sync else "comparing inventories",
                    extra={"session": session_id, "records": len(self._store.index)},
                )
            case Converged():
                self._to_apply.put_nowait(event)  # behind the frames that are not stored yet
            case Answered(id=number):
                if not self._asked[number].done():
                    self._asked[number].set_result(event)
            case ReportsWanted():
                logger.info("edgehub: the cluster had given this node up, reporting everything")
                self._on_reports_wanted()
            case StreamWanted() | StreamCame() | StreamRoom() | StreamGone():
                self._streams.handle(event, self._group)

    async def _apply(self) -> None:
        while True:
            together = take_together(await self._to_apply.get(), self._to_apply)
            acknowledged = [event for event in together if isinstance(event, Acknowledged)]
            # Side by side: one fsync makes both durable.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._acknowledge(acknowledged))
                await self._store_frames([e for e in together if isinstance(e, Received)])
            if isinstance(together[-1], Converged):
                self._store.converged()

    async def _store_frames(self, frames: Sequence[Received]) -> None:
        """Make frames durable in one commit, then acknowledge the last of each lane."""
        if not frames:
            return
        failpoint("edgehub.before_commit")
        deltas = [delta for f in frames for delta in f.deltas]
        rejected = await self._applier.apply(deltas, max(f.horizon for f in frames))
        if self._session.state is State.CLOSED:
            return
        reasons = {id(delta): reason for delta, reason in rejected}
        for frame in frames:
            for delta in frame.deltas:
                if id(delta) in reasons:
                    self._session.rejected(frame.lane, delta, reasons[id(delta)])
        failpoint("edgehub.before_ack")
        for lane, number in {frame.lane: frame.number for frame in frames}.items():
            self._session.committed(lane, number)  # durable first, acknowledged second
        failpoint("edgehub.after_ack")
        self._to_send.set()

    async def _acknowledge(self, events: Sequence[Acknowledged]) -> None:
        rows_of: dict[Lane, list[tuple[ObjectKey, int]]] = {}
        for event in events:
            self._samples.acknowledged(event.tokens.count(MEMORY_BLOCK))
            for token in event.tokens:
                if token is not MEMORY_BLOCK:
                    rows_of.setdefault(event.lane, []).extend(token)
        for lane, rows in rows_of.items():
            if not rows:
                continue
            failpoint("edgehub.before_forget")
            await self._durably(partial(self._store.acknowledge, lane, rows))
            failpoint("edgehub.after_forget")
            for key, version in rows:
                log_change(logger, "acknowledged", key, version)
        self._to_fill.set()

    async def _note(self, store: Callable[[], Awaitable[None]]) -> None:
        # A full disk must not keep the node from its lease; what is not noted is found again at the next join.
        with suppress(StoreError):
            await store()

    async def _durably(self, store: Callable[[], Awaitable[None]]) -> None:
        """Wait until there is room on the disk again; the store has said that there is none.

        Meanwhile nothing is acknowledged, so the cloud sends no more than its windows, and leases go on.
        """
        backoff = Backoff(*_DISK_BACKOFF_S)
        while True:
            try:
                return await store()
            except StoreError as exc:
                if not exc.retryable:
                    raise
            await asyncio.sleep(backoff.next_delay_s())

    async def _watch_store(self) -> None:
        await self._rebuilt.changed()
        raise StoreRebuiltError

    async def _watch_outbox(self) -> None:
        while True:
            await self._feed.changed()
            self._to_fill.set()

    async def _fill(self) -> None:
        while True:
            await self._to_fill.wait()
            self._to_fill.clear()
            if self.joined and self._to_apply.qsize() < _MAX_TO_APPLY:
                # Blocks in memory and rows of their lane go first in turns: neither starves the other.
                self._blocks_first = not self._blocks_first
                if self._blocks_first:
                    self._fill_blocks()
                for lane in Lane:
                    await self._fill_lane(lane)
                self._fill_blocks()

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
            rows = first_rows(rows)
            token = tuple((row.report.key, row.version) for row in rows)
            if is_sample_block(rows[0]):
                self._send_block(with_sequence(rows[0].report.body, rows[0].version), token)
            else:
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

    def _fill_blocks(self) -> None:
        while self._session.room(Lane.SAMPLES) > 0:
            block = self._samples.next_block(self._session.frame_bytes)
            if block is None:
                return
            self._send_block(block, MEMORY_BLOCK)

    def _send_block(self, block: bytes, token: object) -> None:
        self._session.send(Lane.SAMPLES, block, token)
        self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while messages := self._session.outgoing(self._clock()):
                failpoint("edgehub.before_send")
                await self._stream.send(messages)
                failpoint("edgehub.after_send")
                self._to_fill.set()  # a lane may have room again
            if self._session.state is State.CLOSED and not self._closed.done():
                self._closed.set_result(None)

    async def _tick(self) -> None:
        due_s = self._clock()
        while True:
            now = self._clock()
            self._session.tick(now, max(0.0, now - due_s))
            if self._session.has_outgoing:
                self._to_send.set()
            # The Welcome brings another heartbeat, which counts from then on.
            rest_s = self._session.heartbeat_s / 8
            due_s = now + rest_s
            if self.joined:
                await asyncio.sleep(rest_s)
            else:
                await asyncio.wait([self._welcomed], timeout=rest_s)


def _delta(row: OutboxRow) -> Delta:
    report, version = row
    # With the database id it makes a log entry that is sent twice the same one; never used twice.
    sequence = version if report.op is Op.APPEND else 0
    # The version is the change's name in both logs: grep finds one change on its whole way.
    return Delta(report.op, report.key, report.uid, version, sequence, report.body, version)
