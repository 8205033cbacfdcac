"""Another node at the same cloud while a fault happens to the first: what it is served with, before and during (I9)."""

from __future__ import annotations

import asyncio
from typing import Self

from synccore.messages import Lane, Op
from tests.faults.bodies import body_of
from tests.faults.world import NEIGHBOUR as NODE
from tests.faults.world import Edge, World

ROW = [*("Device", "default", "neighbour"), "u"]
CALM_ROUNDS = 10
PAUSE_S = 0.05
POLL_S = 0.005


class Neighbour:
    """Enter: it is joined, and its calm rounds are done; exit: what the fault made of them is in the history."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._edge = Edge(world, NODE, NODE, world.folder / NODE)
        self._edge.silent = True  # only how it is served is judged
        self._edge.server = f"127.0.0.1:{world.site.cloud_port}"
        self._stop = asyncio.Event()
        self._rounds = 0
        self._slowest_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._world.edges.append(self._edge)
        await self._edge.start()
        await self._world.until("the neighbour joins", self._connected)
        await self._round()  # the first pays for what is made once
        calm_s = [await self._round() for _ in range(CALM_ROUNDS)]
        self._world.history.add("neighbour", when="calm", slowest_s=max(calm_s))
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, exc_type: object, *exc_info: object) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task
        joins = self._edge.process.log_text().count("edgehub: joined cloudcore")
        self._world.history.add(
            "neighbour", when="fault", slowest_s=self._slowest_s, rounds=self._rounds, joins=joins
        )
        self._world.edges.remove(self._edge)
        await self._edge.kill()

    async def _connected(self) -> bool:
        return bool((await self._edge.process.ask("state"))["connected"])

    async def _go_on(self) -> None:
        while not self._stop.is_set():
            self._slowest_s = max(self._slowest_s, await self._round())
            self._rounds += 1
            await asyncio.sleep(PAUSE_S)

    async def _round(self) -> float:
        """Report one state; return how long it took until the cloud had it for good."""
        body = body_of(tuple(ROW[:3]), self._world.next_number(), node=NODE)
        rows = [[*ROW, body, int(Lane.TWINS), int(Op.UPSERT)]]
        began_s = asyncio.get_running_loop().time()
        await self._edge.process.ask("report", rows=rows)
        await self._world.until("the neighbour's report is acknowledged", self._has_nothing_waiting)
        return asyncio.get_running_loop().time() - began_s

    async def _has_nothing_waiting(self) -> bool:
        return (await self._edge.process.ask("state"))["waiting"] == 0
