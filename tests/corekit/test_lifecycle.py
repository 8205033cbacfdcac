"""Components: entered in order, stopped and exited in reverse, and one that returns or fails ends the rest."""

from __future__ import annotations

import asyncio
import logging

import pytest

from corekit.errors import ComponentExitedError
from corekit.lifecycle import apart, leaf_exceptions, run_components, start_in


class Recorder:
    def __init__(self, name, log, run=None):
        self.name, self._log, self._run = name, log, run

    async def __aenter__(self):
        self._log.append(f"enter {self.name}")
        return self

    async def __aexit__(self, *exc_info):
        self._log.append(f"exit {self.name}")

    async def run(self):
        try:
            await (self._run() if self._run else asyncio.Event().wait())
        finally:
            self._log.append(f"stop {self.name}")


async def test_components_stop_and_exit_in_reverse_order():
    log, stop = [], asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    await run_components([Recorder("store", log), Recorder("hub", log)], stop)
    assert log == ["enter store", "enter hub", "stop hub", "stop store", "exit hub", "exit store"]


async def test_a_component_that_returns_ends_the_others_and_is_named():
    async def returns():
        return None

    log = []
    with pytest.raises(ExceptionGroup) as caught:
        await run_components([Recorder("a", log), Recorder("b", log, returns)], asyncio.Event())
    (leaf,) = leaf_exceptions(caught.value)
    assert isinstance(leaf, ComponentExitedError)
    assert leaf.component == "b"
    assert log[-2:] == ["exit b", "exit a"]


async def test_a_component_that_ignores_its_cancel_is_reported(caplog):
    release, stop = asyncio.Event(), asyncio.Event()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
            raise

    loop = asyncio.get_running_loop()
    loop.call_soon(stop.set)
    loop.call_later(0.1, release.set)
    with caplog.at_level(logging.ERROR):
        await run_components([Recorder("slow", [], stubborn)], stop, stop_timeout_s=0.01)
    assert "slow: still running" in caplog.text


async def test_a_cancellation_survives_a_task_group_that_fails_at_the_same_moment():
    async def fails_when_cancelled():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while being cancelled") from None

    async def group():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails_when_cancelled())

    task = asyncio.create_task(apart(group()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_group_that_is_ending_takes_no_work_and_says_so():
    done, taken = [], []

    async def work():
        done.append(1)

    async def fail():
        raise ValueError

    async def serve():
        async with asyncio.TaskGroup() as group:
            taken.append(start_in(group, work()))
            group.create_task(fail())
            try:
                await asyncio.sleep(10)
            finally:
                taken.append(start_in(group, work()))

    with pytest.raises(ExceptionGroup):
        await serve()
    assert (taken, done) == ([True, False], [1])
