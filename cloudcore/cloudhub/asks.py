"""Questions of nodes: which kind is answered by whom. What is asked is their business, not the hub's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from synccore.asking import UNKNOWN_KIND

# (node, body) -> (status, body)
Answerer = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]


class AskRouter:
    """`AskSink` that knows one answerer per kind."""

    def __init__(self, answerers: Mapping[str, Answerer]) -> None:
        self._answerers = answerers

    async def answer(self, node: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Return the answer of whoever serves `kind`."""
        answerer = self._answerers.get(kind)
        if answerer is None:
            return UNKNOWN_KIND, f"no such kind of question: {kind[:63]}".encode()
        return await answerer(node, body)


class NothingToAsk(AskRouter):
    """`AskSink` of a hub that answers nothing."""

    def __init__(self) -> None:
        super().__init__({})
