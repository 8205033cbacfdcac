"""Which node is connected, by which database: refuses a second machine under one name."""

from __future__ import annotations

from typing import Protocol

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


class NodeRegistry:
    """Live streams by node. One name, one database: whoever comes with another one waits outside."""

    def __init__(self, retry_after_s: float) -> None:
        self._live: dict[str, tuple[bytes, LiveStream]] = {}
        self._retry_after_s = retry_after_s

    def __len__(self) -> int:
        return len(self._live)

    def admit(self, node: str, database_id: bytes, stream: LiveStream) -> None:
        """Register `stream` as the node's; an older stream of the same database ends.

        Raises:  RefusedError: another machine (another database) is connected under this name.
        """
        held = self._live.get(node)
        if held is not None:
            if held[0] != database_id:
                raise RefusedError(
                    "NODE_NAME_IN_USE",
                    f"node name {node!r} is in use: another edgecore (database {held[0].hex()[:8]}) "
                    "is connected under it",
                    self._retry_after_s,
                )
            held[1].end("SUPERSEDED", "this node has joined on another stream", 0.0)
        self._live[node] = (database_id, stream)

    def leave(self, node: str, stream: LiveStream) -> None:
        """Forget `stream`, unless a newer one has taken its place."""
        held = self._live.get(node)
        if held is not None and held[1] is stream:
            del self._live[node]

    def end_all(self, code: str, reason: str, retry_after_s: float) -> None:
        """Close every live stream."""
        for _, stream in self._live.values():
            stream.end(code, reason, retry_after_s)
