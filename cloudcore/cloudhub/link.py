"""One node's stream at the cloud: move messages between the session, gRPC, the record source and the sink."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from cloudcore.cloudhub.fence import DatabaseFence
from cloudcore.cloudhub.registry import NodeRegistry, RefusedError
from cloudcore.cloudhub.reports import ReportQueue
from cloudcore.seams import NodeView, RecordSource, ReportSink
from corekit.errors import EdgeError, ProtocolError, TransportError
from corekit.failpoints import failpoint
from synccore.cloud_session import CloudSession, Joining
from synccore.errors import SessionClosedError
from synccore.messages import CloudMessage, EdgeMessage, Hello, Lane, ObjectKey
from synccore.session import Received

logger = logging.getLogger(__name__)

NOT_READY_RETRY_S = 1.0


class EndedError(EdgeError):
    """We have closed the stream: the node came back on another one, or cloudcore stops."""


class CloudStream(Protocol):
    """An open stream."""

    async def send(self, messages: Sequence[CloudMessage]) -> None:
        """Write in order; waits while the peer does not read. Raises: TransportError."""

    async def receive(self) -> EdgeMessage:
        """Return the next message. Raises: TransportError; ProtocolError: it means nothing to us."""


class HubCounters(Protocol):
    """What the hub counts."""

    def sent(self, kind: str, op: str, count: int) -> None:
        """Count deltas of `kind` ("" if only its hash is known) sent downstream."""

    def joined(self, *, in_sync: bool) -> None:
        """Count a node that joined."""


class NodeLink:
    """Serves one node's stream until it breaks. Tasks: receive, send, tick, reports; all end together."""

    def __init__(
        self,
        node: str,
        stream: CloudStream,
        session: CloudSession,
        *,
        source: RecordSource,
        sink: ReportSink,
        registry: NodeRegistry,
        fence: DatabaseFence,
        counters: HubCounters,
        clock: Callable[[], float],
    ) -> None:
        self._node, self._stream, self._session = node, stream, session
        self._source, self._registry, self._counters = source, registry, counters
        self._clock = clock
        self._sink = fence.guard(sink)
        self._reports = ReportQueue(node, self._sink, self._report_done)
        self._to_send, self._ended = asyncio.Event(), asyncio.Event()
        self._view: NodeView | None = None
        self._reports_wanted = False

    def end(self, code: str, reason: str, retry_after_s: float) -> None:
        """Close the stream, saying why."""
        self._session.close(code, reason, retry_after_s)
        self._ended.set()

    async def serve(self) -> None:
        """Serve until the stream breaks. Raises: ExceptionGroup with the reason in it."""
        try:
            async with asyncio.TaskGroup() as group:
                for task in (self._receive, self._send, self._tick, self._await_end):
                    group.create_task(task(), name=f"{self._node}{task.__name__}")
                group.create_task(self._reports.run(), name=f"{self._node}_reports")
        finally:
            if self._view is not None:
                self._view.close()
            self._registry.leave(self._node, self)

    async def _receive(self) -> None:
        while True:
            message = await self._stream.receive()
            try:
                for event in self._session.receive(message, self._clock()):
                    await self._handle(event)
            except (ProtocolError, RefusedError) as exc:
                self._session.close(exc.code, str(exc), getattr(exc, "retry_after_s", 0.0))
                await self._stream.send(self._session.outgoing())  # the Close that says why
                raise
            self._to_send.set()

    async def _handle(self, event: object) -> None:
        match event:
            case Joining(hello=hello):
                self._join(hello)
            case Received():
                await self._reports.put(event)

    def _join(self, hello: Hello) -> None:
        if hello.node_name != self._node:
            raise RefusedError(
                "FORBIDDEN",
                f"certificate is for node {self._node!r}, not {hello.node_name!r}",
                60.0,
            )
        if not self._source.synced:
            raise RefusedError("NOT_READY", "cloudcore is still listing", NOT_READY_RETRY_S)
        self._registry.admit(self._node, hello.database_id, hello.boot_id, self)
        self._sink.join(self._node, hello)
        session_id = f"{self._node}-{hello.boot_id[:8]}"
        self._view = self._source.open(self._node, self._changed, self._given_up)
        in_sync = self._session.accept(self._view.index, self._view.read, session_id)
        self._counters.joined(in_sync=in_sync)
        logger.info(
            "cloudhub: node joined, %s",
            "in sync" if in_sync else "comparing inventories",
            extra={"node": self._node, "session": session_id, "agent": hello.agent_version},
        )

    def _changed(self, key: ObjectKey) -> None:
        self._session.changed(key)
        self._to_send.set()

    def _given_up(self) -> None:
        self._reports_wanted = True
        self._to_send.set()

    def _report_done(self, lane: Lane, number: int) -> None:
        self._session.committed(lane, number)
        self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            if self._reports_wanted:
                self._reports_wanted = False
                self._session.ask_reports()
            sent = Counter((d.key.kind, d.op.name.lower()) for d in self._session.pump())
            for (kind, op), count in sent.items():
                self._counters.sent(kind, op, count)
            outgoing = self._session.outgoing()
            failpoint("cloudhub.before_send")
            await self._stream.send(outgoing)
            failpoint("cloudhub.after_send")

    async def _tick(self) -> None:
        while True:
            self._session.tick(self._clock())
            self._to_send.set()
            await asyncio.sleep(self._session.heartbeat_s / 8)

    async def _await_end(self) -> None:
        await self._ended.wait()
        await self._stream.send(self._session.outgoing())
        raise EndedError("closed by cloudcore")


def expected_end(exc: BaseException) -> bool:
    """Tell whether a stream that ended with `exc` ended as streams do."""
    return isinstance(exc, TransportError | SessionClosedError | EndedError | RefusedError)
