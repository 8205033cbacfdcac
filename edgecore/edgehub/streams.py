"""Byte streams of one link at the edge: each one that the cloud opens gets a task that serves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from corekit.bytestream import ByteStream
from corekit.errors import EdgeError
from edgecore.streams import StreamHandler, StreamRefusedError
from synccore.edge_session import EdgeSession
from synccore.tunnels import (
    FAILED,
    StreamCame,
    StreamGone,
    StreamRoom,
    StreamWanted,
)

logger = logging.getLogger(__name__)


class EdgeStreams:
    """The streams of one session; all end with it."""

    def __init__(
        self, session: EdgeSession, handler: StreamHandler, wake: Callable[[], None]
    ) -> None:
        self._session, self._handler, self._wake = session, handler, wake
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, ByteStream] = {}

    def handle(self, event: object, group: asyncio.TaskGroup) -> None:
        """Take an event of the session that is about a stream."""
        match event:
            case StreamWanted(stream_id=stream_id, target=target):
                task = group.create_task(self._serve(stream_id, target), name=f"stream {stream_id}")
                self._tasks[stream_id] = task
                task.add_done_callback(lambda _: self._over(stream_id))
            case StreamCame(stream_id=stream_id, content=content, end=end):
                if stream_id in self._streams:
                    self._streams[stream_id].feed(content, end=end)
                else:  # nobody reads it any more, and its sender may not know yet
                    self._session.tunnels.consumed(stream_id, len(content))
            case StreamRoom(stream_id=stream_id):
                if stream_id in self._streams:
                    self._streams[stream_id].has_room()
            case StreamGone(stream_id=stream_id, error=error):
                if stream_id in self._streams:
                    self._streams[stream_id].broke(error or "closed by the cloud")
                if stream_id in self._tasks:  # a log that is followed would never notice
                    self._tasks[stream_id].cancel()

    async def _serve(self, stream_id: int, target: str) -> None:
        def accept() -> ByteStream:
            self._session.tunnels.answer(stream_id)
            stream = self._streams[stream_id] = ByteStream(
                _Port(self._session, stream_id, self._wake)
            )
            self._wake()
            return stream

        try:
            await self._handler(target, accept)
        except (EdgeError, OSError, ValueError) as exc:
            self._failed(stream_id, exc)
        except Exception as exc:  # a bug ends this stream and not the agent
            logger.exception("edgehub: stream %d", stream_id)
            self._failed(stream_id, exc)
        else:
            self._streams[stream_id].end()

    def _over(self, stream_id: int) -> None:
        self._tasks.pop(stream_id, None)
        self._streams.pop(stream_id, None)

    def _failed(self, stream_id: int, exc: Exception) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            logger.debug("edgehub: stream %d: %s", stream_id, exc)
            stream.close(str(exc))
        else:
            code = exc.code if isinstance(exc, StreamRefusedError) else FAILED
            self._session.tunnels.answer(stream_id, code, str(exc) or type(exc).__name__)
        self._wake()


class _Port:
    """`StreamPort` of one stream of a session."""

    def __init__(self, session: EdgeSession, stream_id: int, wake: Callable[[], None]) -> None:
        self._session, self._id, self._wake = session, stream_id, wake

    def room(self) -> int:
        return self._session.tunnels.room(self._id)

    def send(self, content: bytes, *, end: bool = False) -> None:
        self._session.tunnels.send(self._id, content, end=end)
        self._wake()

    def consumed(self, size_bytes: int) -> None:
        self._session.tunnels.consumed(self._id, size_bytes)
        self._wake()

    def close(self, error: str) -> None:
        self._session.tunnels.close(self._id, error)
        self._wake()
