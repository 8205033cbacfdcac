"""Calls that must not be dropped half-way. Knows no pods."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

FINISH_S = (
    10.0  # such a call takes a second even on a busy machine; an agent that ends waits no longer
)


async def finished(call: Coroutine[Any, Any, T], limit_s: float = FINISH_S) -> T:
    """Return what `call` returns; when cancelled, let it end first, but wait for that no longer than `limit_s`.

    A runtime that is told to drop a sandbox or container which it is making leaves a process of its own behind that
    nobody knows of, or makes it all the same, after the pod has gone.
    """
    # No TaskGroup: cancelling us must not cancel the call.
    task = asyncio.ensure_future(call)
    task.add_done_callback(_look_at)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            try:
                await asyncio.wait([task], timeout=limit_s)
            finally:
                task.cancel()


def _look_at(task: asyncio.Future[T]) -> None:
    """Keep asyncio from complaining of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
