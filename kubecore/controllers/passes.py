"""When a controller looks at everything again: after each burst of changes, and a while after a write that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

logger = logging.getLogger(__name__)

# A write that failed is tried again after this, also when nothing else changes.
RETRY_S = 1.0


async def pass_after_changes(
    what: str,
    wake: asyncio.Event,
    is_synced: Callable[[], bool],
    one_pass: Callable[[], Awaitable[bool]],
    *,
    settle_s: float = 0.0,
    idle_s: float | None = None,
) -> NoReturn:
    """Run `one_pass` whenever `wake` was set and the mirrors it reads are there; until cancelled.

    Shapes:  what: for the log. one_pass(): whether a write failed that may pass later.
    Units:   settle_s: how long to wait for the rest of a burst. idle_s: a pass this long after the last, without any change.
    """
    failed = False
    while True:
        try:
            async with asyncio.timeout(RETRY_S if failed else idle_s):
                await wake.wait()
        except TimeoutError:
            logger.debug("looking at %s again", what)
        await asyncio.sleep(settle_s)
        wake.clear()
        if is_synced():
            failed = await one_pass()
