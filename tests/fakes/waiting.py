"""Waiting for a condition, where nothing tells of it."""

from __future__ import annotations

import asyncio
import inspect


async def eventually(condition, timeout_s=60.0, interval_s=0.05):
    """Return once `condition()` holds; it may be a coroutine function. Raises: TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(interval_s)
