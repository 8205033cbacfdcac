"""Which node is connected, by which database: refuses a second machine under one name."""

from __future__ import annotations

from typing import Protocol

from corekit.errors import EdgeError


class RefusedError(EdgeError):
    """A stream is not admitted; `code` and the message go to the edge."""

    def __init__(self, code: str, reason: str, retry_after_s: float) -> None:
        self.code, self.retry_after_s = code, retry_after_s
        super().__init__(reason)


class Supersedable(Protocol):
    """A live stream, as the registry sees it."""

    def supersede(self) -> None:
        """End: the same node has come back on another stream."""


class NodeRegistry:
    """Live streams by node. One name, one database: whoever comes with another one waits outside."""

    def __init__(self, retry_after_s: float) -> None:
        self._live: dict[str, tuple[bytes, Supersedable]] = {}
        self._retry_after_s = retry_after_s

    def __len__(self) -> int:
        return len(self._live)

    def admit(self, node: str, database_id: bytes, stream: Supersedable) -> None:
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
            held[1].supersede()
        self._live[node] = (database_id, stream)

    def leave(self, node: str, stream: Supersedable) -> None:
        """Forget `stream`, unless a newer one has taken its place."""
        held = self._live.get(node)
        if held is not None and held[1] is stream:
            del self._live[node]
