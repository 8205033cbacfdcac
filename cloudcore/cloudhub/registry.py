"""Which node is connected, by which database: refuses a second machine under one name."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from corekit.bytestream import ByteStream
from corekit.errors import EdgeError


class RefusedError(EdgeError):
    """A stream is not admitted; `code` and the message go to the edge."""

    def __init__(self, code: str, reason: str, retry_after_s: float) -> None:
        self.code, self.retry_after_s = code, retry_after_s
        super().__init__(reason)


class LiveStream(Protocol):
    """A live stream, as the registry sees it."""

    def end(self, code: str, reason: str, retry_after_s: float) -> None:
        """Close it, saying why."""

    async def open_stream(self, target: str) -> ByteStream:
        """Open a byte stream at the node."""


class _Live(NamedTuple):
    database_id: bytes
    run: str
    stream: LiveStream


class NodeRegistry:
    """Live streams by node. One name, one opening of one database: whoever comes with another waits outside.

    A copy of a disk has the same database, but not opened by the same process. A machine that restarted finds
    its old stream ended, or waits until that is noticed, at most two heartbeats.
    """

    def __init__(self, retry_after_s: float) -> None:
        self._live: dict[str, _Live] = {}
        self._retry_after_s = retry_after_s

    def __len__(self) -> int:
        return len(self._live)

    def admit(self, node: str, database_id: bytes, run: str, stream: LiveStream) -> None:
        """Register `stream` as the node's; an older stream of the same opening of its database ends.

        Raises:  RefusedError: another machine is connected under this name, by another database or a copy.
        """
        held = self._live.get(node)
        if held is not None:
            if (held.database_id, held.run) != (database_id, run):
                same = held.database_id == database_id
                whose = "a copy of the same" if same else "another"
                raise RefusedError(
                    "NODE_NAME_IN_USE",
                    f"node name {node!r} is in use: {whose} edgecore "
                    f"(database {held.database_id.hex()[:8]}) is connected under it",
                    self._retry_after_s,
                )
            held.stream.end("SUPERSEDED", "this node has joined on another stream", 0.0)
        self._live[node] = _Live(database_id, run, stream)

    def leave(self, node: str, stream: LiveStream) -> bool:
        """Forget `stream`, unless a newer one has taken its place; return whether the node is gone with it."""
        held = self._live.get(node)
        if held is None or held.stream is not stream:
            return False
        del self._live[node]
        return True

    def stream(self, node: str) -> LiveStream | None:
        """Return the live stream of `node`."""
        held = self._live.get(node)
        return held.stream if held is not None else None

    def end_all(self, code: str, reason: str, retry_after_s: float) -> None:
        """Close every live stream."""
        for live in self._live.values():
            live.stream.end(code, reason, retry_after_s)
