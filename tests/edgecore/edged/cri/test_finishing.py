"""A call that was begun is seen through."""

from __future__ import annotations

import asyncio

import pytest

from edgecore.edged.cri.finishing import finished


async def test_a_call_answers_or_fails_as_it_does_alone():
    async def five():
        return 5

    async def bad():
        raise ValueError("no")

    assert await finished(five()) == 5
    with pytest.raises(ValueError, match="^no$"):
        await finished(bad())


@pytest.mark.parametrize("outcome", ["answer", "error"])
async def test_who_is_cancelled_waits_for_the_end_of_the_call(outcome):
    go, ended = asyncio.Event(), []

    async def call():
        await go.wait()
        ended.append(outcome)
        if outcome == "error":
            raise ValueError(outcome)

    waiting = asyncio.ensure_future(finished(call()))
    await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [outcome]


async def test_a_call_that_hangs_is_dropped_in_the_end():
    dropped = []

    async def call():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            dropped.append(True)
            raise

    waiting = asyncio.ensure_future(finished(call(), limit_s=0.01))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
    assert dropped == [True]
