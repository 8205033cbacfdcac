"""What goes on while faults happen: states and log entries upward, records downward, at seeded paces."""

from __future__ import annotations

import asyncio
import random

from synccore.messages import Op
from tests.faults.world import World

WRITERS = 3


class Workload:
    """Runs from enter to exit. Each upstream writer owns its keys, so that what it writes later is newer."""

    def __init__(self, world: World, *, pace_s: float = 0.01) -> None:
        self._world, self._pace_s = world, pace_s
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self):
        seeds = self._world.random
        for number in range(WRITERS):
            rng = random.Random(seeds.random())
            self._tasks.append(asyncio.create_task(self._write_up(number, rng)))
        self._tasks.append(asyncio.create_task(self._write_down(random.Random(seeds.random()))))
        return self

    async def __aexit__(self, exc_type, *exc_info):
        self._stop.set()
        self._world.flowing.set()
        if exc_type is None:
            await asyncio.gather(*self._tasks)
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _write_up(self, number: int, rng: random.Random) -> None:
        while not self._stop.is_set():
            await self._world.flowing.wait()
            rows = [self._world.row(number, rng) for _ in range(rng.choice((1, 1, 2, 8)))]
            # One of a key at most: two in one commit have no order that anybody could ask for.
            once = {row[0] if row[2] is not Op.APPEND else object(): row for row in rows}
            done = await self._world.report(list(once.values()))
            await asyncio.sleep(0.05 if done is None else rng.random() * 2 * self._pace_s)

    async def _write_down(self, rng: random.Random) -> None:
        keys = self._world.down_keys(rng)
        while not self._stop.is_set():
            await self._world.flowing.wait()
            key = rng.choice(keys)
            if rng.random() < 0.25:
                self._world.drop(key)
            else:
                self._world.put(key)
            await asyncio.sleep(rng.random() * 2 * self._pace_s)
