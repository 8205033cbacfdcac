"""Which port stands for which node: the same one again wherever possible, also after a restart of cloudcore."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b


class PortBook:
    """Gives each node a port of a range.

    A port that a node had is given to another one only when no other is left: the API server may still hold the old
    Node, and must not reach somebody else there.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._count = first, last - first + 1
        self._ports: dict[str, int] = {}
        self._nodes: dict[int, str] = {}
        self._away: dict[str, None] = {}  # nodes that are not connected, longest away first

    def port_of(self, node: str) -> int | None:
        """Return the port of a node that has one."""
        return self._ports.get(node)

    def claim(self, node: str, usable: Callable[[int], bool]) -> int | None:
        """Return a port for `node`, None if there is none; `usable(port)` takes it or says no."""
        self._away.pop(node, None)
        known = self._ports.get(node)
        if known is not None and usable(known):
            return known
        if known is not None:
            self._drop(node)
        start = int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "little")
        for step in range(self._count):
            port = self._first + (start + step) % self._count
            if port not in self._nodes and usable(port):
                return self._keep(node, port)
        for other in list(self._away):
            port = self._drop(other)
            if usable(port):
                return self._keep(node, port)
        return None

    def release(self, node: str) -> None:
        """Note that the node is away; its port stays its own while others are free."""
        if node in self._ports:
            self._away[node] = None

    def _keep(self, node: str, port: int) -> int:
        self._ports[node], self._nodes[port] = port, node
        return port

    def _drop(self, node: str) -> int:
        port = self._ports.pop(node)
        del self._nodes[port]
        self._away.pop(node, None)
        return port
