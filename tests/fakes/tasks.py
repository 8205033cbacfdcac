"""Components' `run()`s for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def running_tasks(*coroutines):
    """Run `coroutines`, and end them afterwards; one that failed fails the test."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
