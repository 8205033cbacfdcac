"""One node's stream at the cloud: move messages between the session, gRPC, the record source and the sink."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cloudcore.cloudhub.admission import Admission
from cloudcore.cloudhub.counters import DOWN, UP, HubCounters
from cloudcore.cloudhub.fence import DatabaseFence
from cloudcore.cloudhub.registry import NodeRegistry, RefusedError
from cloudcore.cloudhub.reports import ReportQueue
from cloudcore.cloudhub.samples import SampleQueue, TakenBlocks
from cloudcore.cloudhub.streams import CloudStreams
from cloudcore.seams import (
    AskSink,
    NodeView,
    NodeWatcher,
    NoWatcher,
    RecordSource,
    ReportSink,
    SampleSink,
)
from corekit.bytestream import ByteStream
from corekit.errors import EdgeError, ProtocolError, TransportError
from corekit.failpoints import failpoint
from corekit.lifecycle import start_in
from corekit.logs import log_change
from synccore.asking import TOO_LATE, Asked
from synccore.cloud_session import CloudSession, Joining, Sent, SetAside
from synccore.errors import SessionClosedError
from synccore.messages import (
    ASK_DEADLINE_S,
    CloudMessage,
    EdgeMessage,
    Frame,
    Hello,
    Lane,
    ObjectKey,
    State,
)
from synccore.session import Acknowledged, PeerSilentError, Received
from synccore.tunnels import StreamAnswered, StreamCame, StreamGone, StreamRoom

logger = logging.getLogger(__name__)

NOT_READY_RETRY_S = 1.0
# A Close is worth this long to a peer that does not read; then its stream is cut.
CLOSE_TIMEOUT_S = 1.0
# A turn is waited for on the open stream, up to a heartbeat and this: the edge expects its Welcome within 30 s.
MAX_TURN_WAIT_S = 15.0


class EndedError(EdgeError):
    """We have closed the stream: the node came back on another one, or cloudcore stops."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(f"closed by cloudcore: {reason}")


class CloudStream(Protocol):
    """An open stream."""

    async def send(self, messages: Sequence[CloudMessage]) -> None:
        """Write in order; waits while the peer does not read. Raises: TransportError."""

    async def receive(self) -> EdgeMessage:
        """Return the next message. Raises: TransportError; ProtocolError: it means nothing to us."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all links of a hub share."""

    source: RecordSource
    sink: ReportSink
    samples: SampleSink
    asks: AskSink
    taken: TakenBlocks
    registry: NodeRegistry
    fence: DatabaseFence
    admission: Admission
    counters: HubCounters
    clock: Callable[[], float]
    next_change_id: Callable[[], int]
    watcher: NodeWatcher = field(default_factory=NoWatcher)


class NodeLink:
    """Serves one node's stream until it breaks.

    Lean, as there are thousands: one task to send, the caller's own to receive, and those that write reports only
    while there are some. All end together.
    """

    def __init__(
        self, node: str, stream: CloudStream, session: CloudSession, hub: Surroundings
    ) -> None:
        self.node = node
        self._stream, self._session, self._hub = stream, session, hub
        self._sink = hub.fence.guard(hub.sink)
        self._reports = ReportQueue(node, self._sink, self._report_done)
        self._samples: SampleQueue | None = None  # made for the first block: most nodes send none
        self._streams = CloudStreams(session, self._wake)
        self._database_id = b""
        self._to_send = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._end: EdgeError | None = None  # why we said Close
        self._closed_at = 0.0
        self._view: NodeView | None = None
        self._reports_wanted = self._given_up_on = False

    @property
    def joined(self) -> bool:
        """Whether the node was welcomed."""
        return self._view is not None

    def end(self, code: str, reason: str, retry_after_s: float) -> None:
        """Close the stream, saying why."""
        self._close(EndedError(code, reason), code, reason, retry_after_s)

    async def serve(self) -> None:
        """Serve until the stream breaks. Raises: ExceptionGroup with the reason in it."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._reports.start(self._group)
                self._group.create_task(self._send())
                await self._receive()
        finally:
            self._streams.broke("the link to the node was lost")
            # Whatever points back at us would keep all of this until the garbage collector comes.
            self._reports.end()
            self._session.let_go()
            self._group = None
            if self._view is not None:
                self._view.close()
                self._view = None
            if self._hub.registry.leave(self.node, self):
                self._hub.watcher.left(self.node)

    async def open_stream(self, target: str) -> ByteStream:
        """Open a byte stream at the node. Raises: StreamRefusedError; StreamBrokenError: the link was lost."""
        return await self._streams.open(target)

    def tick(self, now: float, late_s: float = 0.0) -> None:
        """Keep time; the hub does it for all links at once, because five thousand timers cost a core.

        Units:   late_s: by how much the hub itself was late to do so.
        """
        if self._end is not None:
            if now - self._closed_at > CLOSE_TIMEOUT_S:
                self._give_up(self._end)
            return
        try:
            self._session.tick(now, late_s)
        except PeerSilentError as exc:
            self._give_up(exc)
        if self._session.has_outgoing:
            self._to_send.set()

    def lags_s(self, now: float) -> dict[tuple[str, Lane], float]:
        """Return the age of the oldest unacknowledged frame by direction and lane, where there is one."""
        session = self._session
        lags_s = {(DOWN, lane): session.unacknowledged_s(lane, now) for lane in session.lanes_sent}
        lags_s |= {(UP, lane): session.uncommitted_s(lane, now) for lane in session.lanes_received}
        return lags_s

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._stream.receive()
                for event in self._session.receive(message, self._hub.clock()):
                    await self._handle(event)
                if isinstance(message, Frame):
                    self._hub.counters.moved(UP, message.lane, 1, 0, len(message.batch))
                if self._session.has_outgoing:
                    self._to_send.set()
        except (ProtocolError, RefusedError) as exc:
            retry_after_s = getattr(exc, "retry_after_s", 0.0)
            self._close(exc, exc.code, str(exc), retry_after_s)
            await asyncio.sleep(2 * CLOSE_TIMEOUT_S)  # `_send` writes the Close and raises `exc`
            raise

    async def _handle(self, event: object) -> None:
        match event:
            case Joining(hello=hello):
                await self._join(hello)
                self._to_send.set()
            case Received(block=block) if block:
                self._take_block(event)
            case Received(lane=lane, deltas=deltas):
                self._hub.counters.moved(UP, lane, 0, len(deltas), 0)
                await self._reports.put(event)
            case Acknowledged(tokens=tokens):
                self._to_send.set()  # the window has room again
                self._log("acknowledged", [sent for token in tokens for sent in token])
            case StreamAnswered() | StreamCame() | StreamRoom() | StreamGone():
                self._streams.handle(event)
            case Asked():
                assert self._group is not None
                self._group.create_task(self._answer(event), name=f"{self.node} answer")
            case SetAside(rejected=rejected):
                self._hub.counters.set_aside(rejected.key.kind)
                logger.warning(
                    "cloudhub: node set aside %s: %s",
                    rejected.key,
                    rejected.reason,
                    extra={"node": self.node, "change": f"{rejected.change_id:x}"},
                )

    async def _answer(self, asked: Asked) -> None:
        """Answer one question; the session bounds how many of these run."""
        try:
            async with asyncio.timeout(ASK_DEADLINE_S):
                status, body = await self._hub.asks.answer(self.node, asked.kind, asked.body)
        except TimeoutError:
            status, body = TOO_LATE, b"the Kubernetes API did not answer in time"
        self._session.answer(asked.id, status, body)
        self._to_send.set()

    def _take_block(self, received: Received) -> None:
        if self._samples is None:
            assert self._group is not None
            hub = self._hub
            self._samples = SampleQueue(self.node, hub.samples, hub.taken, self._reports.release)
            start_in(self._group, self._samples.run(), f"{self.node} samples")
        count = self._samples.put(received, self._database_id)
        self._reports.hold(received)
        self._hub.counters.moved(UP, received.lane, 0, count, 0)

    async def _join(self, hello: Hello) -> None:
        hub = self._hub
        if hello.node_name != self.node:
            raise RefusedError(
                "FORBIDDEN",
                f"certificate is for node {self.node!r}, not {hello.node_name!r}",
                60.0,
            )
        await self._admit(hello)
        self._sink.join(self.node, hello)
        self._database_id = hello.database_id
        session_id = f"{self.node}-{hello.boot_id[:8]}"
        self._view = hub.source.open(self.node, self._changed, self._given_up)
        view = self._view
        in_sync = self._session.accept(view.index, view.read, session_id, hub.next_change_id)
        hub.counters.joined(in_sync=in_sync)
        if hub.watcher.joined(self.node):
            self._given_up()
        logger.info(
            "cloudhub: node joined, %s",
            "in sync" if in_sync else "comparing inventories",
            extra={"node": self.node, "session": session_id, "agent": hello.agent_version},
        )

    async def _admit(self, hello: Hello) -> None:
        hub, now = self._hub, self._hub.clock()
        if not hub.source.ready(self.node, hello.horizon):
            # Spread as well: all nodes ask at once when cloudcore has just started.
            retry_after_s = hub.admission.wait_s(self.node, now, at_least_s=NOT_READY_RETRY_S)
            raise RefusedError("NOT_READY", "cloudcore is still listing", retry_after_s)
        wait_s = hub.admission.wait_s(self.node, now)
        if 0 < wait_s <= min(self._session.heartbeat_s, MAX_TURN_WAIT_S):
            # Soon: it waits where it is. A second TLS handshake would cost more than all that follows.
            await asyncio.sleep(wait_s)
            wait_s = hub.admission.wait_s(self.node, hub.clock())
        if wait_s > 0:
            reason = f"many nodes are coming back, {len(hub.admission)} have a turn"
            raise RefusedError("NOT_NOW", reason, wait_s)
        hub.registry.admit(self.node, hello.database_id, hello.boot_id, self)

    def _changed(self, key: ObjectKey) -> None:
        change_id = self._hub.next_change_id()
        log_change(logger, "queued", key, change_id, node=self.node)
        self._session.changed(key, change_id)
        self._to_send.set()

    def _wake(self) -> None:
        self._to_send.set()

    def _given_up(self) -> None:
        self._reports_wanted = True
        self._to_send.set()

    def _report_done(self, lane: Lane, number: int) -> None:
        if self._session.state is not State.CLOSED:
            self._session.committed(lane, number)
            self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            if self._reports_wanted and self._view is not None:
                self._reports_wanted = False
                self._session.ask_reports()
            while (
                True
            ):  # a turn at a time: what is urgent meanwhile goes before the rest of a flood
                self._note_sent(self._session.pump())
                messages = self._session.outgoing(self._hub.clock())
                if not messages:
                    break
                failpoint("cloudhub.before_send")
                await self._stream.send(messages)
                failpoint("cloudhub.after_send")
                self._count(messages)
            if self._end is not None:
                raise self._end

    def _give_up(self, reason: EdgeError) -> None:
        """End the stream from outside: neither a read nor a write on a dead link ever returns."""
        if self._group is not None and not self._given_up_on:
            self._given_up_on = True
            start_in(self._group, _raise(reason))

    def _close(self, why: EdgeError, code: str, reason: str, retry_after_s: float) -> None:
        self._session.close(code, reason, retry_after_s)
        self._end, self._closed_at = self._end or why, self._hub.clock()
        self._to_send.set()

    def _count(self, messages: Sequence[CloudMessage]) -> None:
        for message in messages:
            if isinstance(message, Frame):
                self._hub.counters.moved(DOWN, message.lane, 1, 0, len(message.batch))

    def _note_sent(self, sent: Sequence[Sent]) -> None:
        if not sent:
            return
        kinds, lanes = Counter((s.key.kind, s.op) for s in sent), Counter(s.lane for s in sent)
        for (kind, op), count in kinds.items():
            self._hub.counters.sent(kind, op.name.lower(), count)
        for lane, count in lanes.items():
            self._hub.counters.moved(DOWN, lane, 0, count, 0)
        self._log("sent", sent)

    def _log(self, step: str, sent: Sequence[Sent]) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            for one in sent:
                log_change(logger, step, one.key, one.change_id, node=self.node)


async def _raise(reason: EdgeError) -> None:
    raise reason


def expected_end(exc: BaseException) -> bool:
    """Tell whether a stream that ended with `exc` ended as streams do."""
    return isinstance(exc, TransportError | SessionClosedError | EndedError | RefusedError)


def end_code(exc: BaseException) -> str:
    """Return the word for why a stream ended: a code of docs/protocol.md, SILENT or LINK_LOST."""
    if isinstance(exc, PeerSilentError):
        return "SILENT"
    return str(getattr(exc, "code", "LINK_LOST"))
