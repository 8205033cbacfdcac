"""Turns: a few at a time, and nobody is held up for ever."""

from __future__ import annotations

import asyncio

from edgecore.edged.cri.turns import Turns


async def test_no_more_than_its_count_work_at_once():
    turns, now, most = Turns(3, 60.0), 0, 0

    async def work():
        nonlocal now, most
        async with turns.turn():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(work() for _ in range(50)))
    assert most == 3


async def test_who_has_waited_long_enough_goes_ahead_and_gives_no_turn_back_that_it_did_not_have():
    turns, stuck = Turns(1, 0.05), asyncio.Event()

    async def hold():
        async with turns.turn():
            await stuck.wait()

    first = asyncio.create_task(hold())
    await asyncio.sleep(0)
    async with turns.turn():
        assert turns._free.locked()
    assert turns._free.locked()
    stuck.set()
    await first
    assert not turns._free.locked()


async def test_a_cancelled_wait_takes_no_turn_along():
    turns = Turns(1, 60.0)
    async with turns.turn():
        waiting = asyncio.create_task(turns.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), turns.turn():
        pass
