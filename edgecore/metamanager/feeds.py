"""A feed of what changed: bounded by the number of things, because it coalesces."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Feed(Generic[T]):
    """What changed since the last call of `changed()`; for one reader, on the event loop."""

    def __init__(self) -> None:
        self._pending: set[T] = set()
        self._any = asyncio.Event()

    async def changed(self) -> set[T]:
        """Wait until at least one thing changed; return all that did, and forget them."""
        await self._any.wait()
        self._any.clear()
        pending, self._pending = self._pending, set()
        return pending

    def notify(self, things: Iterable[T]) -> None:
        """Add what changed."""
        self._pending.update(things)
        if self._pending:
            self._any.set()
