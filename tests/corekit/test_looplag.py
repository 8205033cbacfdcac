"""A loop that is busy knows of it, while it lasts and afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest

from corekit.looplag import LATE_S, PERIOD_S, LoopLag


async def test_a_blocked_loop_was_late_then_and_not_since():
    lag = LoopLag()
    assert not lag.was_late(time.monotonic())  # not watching yet
    watching = asyncio.create_task(lag.run())
    begun_s = time.monotonic()
    await asyncio.sleep(0)
    time.sleep(PERIOD_S + 2 * LATE_S)  # noqa: ASYNC251 - this is the fault
    assert lag.was_late(time.monotonic())  # it is overdue at this moment
    while lag._late_at_s < begun_s:
        await asyncio.sleep(0)
    assert lag.was_late(begun_s)
    assert not lag.was_late(lag._late_at_s + 0.001)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
