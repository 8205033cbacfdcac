"""The seam of byte streams at the edge: `edgehub` carries them, `edged.kubelet` serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from corekit.bytestream import ByteStream
from corekit.errors import EdgeError
from synccore.tunnels import UNAVAILABLE

Accept = Callable[[], ByteStream]
# Serves a stream to its target: it calls `accept()` once, and only then has bytes; a StreamRefusedError before that
# is the answer. When it returns, its direction ends.
StreamHandler = Callable[[str, Accept], Awaitable[None]]


class StreamRefusedError(EdgeError):
    """No such stream is opened; `code` is a word of synccore.tunnels.CODES."""

    def __init__(self, code: str, problem: str) -> None:
        self.code = code
        super().__init__(problem)


async def serve_nothing(_target: str, _accept: Accept) -> None:
    """Refuse every stream."""
    raise StreamRefusedError(UNAVAILABLE, "this agent serves no byte streams")
