"""Byte streams of one node's link at the cloud: opened for whoever asks, ended with the link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cloudcore.seams import StreamRefusedError
from corekit.bytestream import ByteStream, StreamBrokenError
from synccore.cloud_session import CloudSession
from synccore.tunnels import (
    MAX_STREAMS,
    TOO_MANY,
    UNAVAILABLE,
    StreamAnswered,
    StreamCame,
    StreamGone,
    StreamRoom,
)

# Joining a runtime's sandbox may take seconds on a slow gateway, and its request waits for the link first.
OPEN_TIMEOUT_S = 30.0


class CloudStreams:
    """The streams of one session."""

    def __init__(self, session: CloudSession, wake: Callable[[], None]) -> None:
        self._session, self._wake = session, wake
        self._streams: dict[int, ByteStream] = {}
        self._answers: dict[int, asyncio.Future[StreamAnswered]] = {}
        self._broken = ""

    async def open(self, target: str) -> ByteStream:
        """Return the stream once the node has opened it. Raises: StreamRefusedError, StreamBrokenError."""
        if self._broken:
            raise StreamBrokenError(self._broken)
        tunnels = self._session.tunnels
        if len(tunnels) >= MAX_STREAMS:
            raise StreamRefusedError(TOO_MANY, f"{MAX_STREAMS} streams of this node are open")
        stream_id = tunnels.open(target)
        self._wake()
        stream = self._streams[stream_id] = ByteStream(_Port(self, stream_id))
        answer = self._answers[stream_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                said = await answer
        except TimeoutError:
            stream.close("no answer in time")
            problem = f"the node did not answer in {OPEN_TIMEOUT_S:.0f} s"
            raise StreamRefusedError(UNAVAILABLE, problem) from None
        except asyncio.CancelledError:
            stream.close("nobody waits for it any more")
            raise
        finally:
            self._answers.pop(stream_id, None)
        if said.code:
            self._streams.pop(stream_id, None)
            raise StreamRefusedError(said.code, said.error or said.code)
        return stream

    def handle(self, event: object) -> None:
        """Take an event of the session that is about a stream."""
        match event:
            case StreamAnswered(stream_id=stream_id):
                answer = self._answers.get(stream_id)
                if answer is not None and not answer.done():
                    answer.set_result(event)
            case StreamCame(stream_id=stream_id, content=content, end=end):
                if stream_id in self._streams:
                    self._streams[stream_id].feed(content, end=end)
            case StreamRoom(stream_id=stream_id):
                if stream_id in self._streams:
                    self._streams[stream_id].has_room()
            case StreamGone(stream_id=stream_id, error=error):
                self._gone(stream_id, error or "closed by the node")

    def broke(self, reason: str) -> None:
        """End everything: the link is gone."""
        self._broken, self._wake = reason, lambda: None
        for stream_id in list(self._streams):
            self._gone(stream_id, reason)

    def _gone(self, stream_id: int, error: str) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.broke(error)
        answer = self._answers.get(stream_id)
        if answer is not None and not answer.done():
            answer.set_exception(StreamBrokenError(error))

    def closed(self, stream_id: int, error: str) -> None:
        """Forget a stream that its user has closed."""
        self._streams.pop(stream_id, None)
        if not self._broken:
            self._session.tunnels.close(stream_id, error)
            self._wake()

    def room(self, stream_id: int) -> int:
        """Return how many bytes may be sent now."""
        return self._session.tunnels.room(stream_id)

    def send(self, stream_id: int, content: bytes, *, end: bool) -> None:
        """Send bytes."""
        self._session.tunnels.send(stream_id, content, end=end)
        self._wake()

    def consumed(self, stream_id: int, size_bytes: int) -> None:
        """Give credit back."""
        self._session.tunnels.consumed(stream_id, size_bytes)
        self._wake()


class _Port:
    """`StreamPort` of one stream."""

    def __init__(self, streams: CloudStreams, stream_id: int) -> None:
        self._streams, self._id = streams, stream_id

    def room(self) -> int:
        return self._streams.room(self._id)

    def send(self, content: bytes, *, end: bool = False) -> None:
        self._streams.send(self._id, content, end=end)

    def consumed(self, size_bytes: int) -> None:
        self._streams.consumed(self._id, size_bytes)

    def close(self, error: str) -> None:
        self._streams.closed(self._id, error)
