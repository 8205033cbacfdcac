"""What goes on while faults happen: states and log entries upward, records downward, at seeded paces."""

from __future__ import annotations

import asyncio
import random

from synccore.messages import Lane, Op
from tests.faults.bodies import Key
from tests.faults.world import NODE, World

WRITERS = 3
DOWN_KINDS = ("Pod", "Pod", "ConfigMap", "Device")


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
        if exc_type is None:
            await asyncio.gather(*self._tasks)
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _write_up(self, number: int, rng: random.Random) -> None:
        while not self._stop.is_set():
            rows = [self._row(number, rng) for _ in range(rng.choice((1, 1, 2, 8)))]
            # One of a key at most: two in one commit have no order that anybody could ask for.
            once = {row[0] if row[2] is not Op.APPEND else object(): row for row in rows}
            done = await self._world.report(list(once.values()))
            await asyncio.sleep(0.05 if done is None else rng.random() * 2 * self._pace_s)

    def _row(self, number: int, rng: random.Random) -> tuple[Key, Lane, Op]:
        choice = rng.random()
        if choice < 0.5:
            return ("Device", "default", f"d{number}-{rng.randrange(5)}"), Lane.TWINS, Op.UPSERT
        if choice < 0.7:
            return ("Pod", "default", f"p{number}-{rng.randrange(5)}"), Lane.PODS, Op.UPSERT
        if choice < 0.75:
            return ("Node", "", f"{NODE}-{number}"), Lane.CONTROL, Op.UPSERT
        return ("Reading", "default", f"r{rng.randrange(3)}"), Lane.SAMPLES, Op.APPEND

    async def _write_down(self, rng: random.Random) -> None:
        keys = [(rng.choice(DOWN_KINDS), "default", f"x{n}") for n in range(30)]
        while not self._stop.is_set():
            key = rng.choice(keys)
            if rng.random() < 0.25:
                self._world.drop(key)
            else:
                self._world.put(key)
            await asyncio.sleep(rng.random() * 2 * self._pace_s)
