"""URLs of the runtime's streaming server."""

from __future__ import annotations

from typing import Protocol

from edgecore.edged.cri.connection import CriConnection, CriRefusedError
from edgecore.edged.runtime import StreamingRefusedError

# Nobody waits longer for a prompt; the calls only make up a URL.
TIMEOUT_S = 10.0


class _Answer(Protocol):
    @property
    def url(self) -> str: ...


async def url(cri: CriConnection, method: str, request: object, answer: type[_Answer]) -> str:
    """Return the URL that the runtime answers with. Raises: StreamingRefusedError, RuntimeUnavailableError."""
    try:
        return (await cri.call(method, request, answer, timeout_s=TIMEOUT_S)).url
    except CriRefusedError as exc:
        raise StreamingRefusedError(exc.details) from exc
