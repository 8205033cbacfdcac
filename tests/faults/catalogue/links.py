"""Links that break, lie and crawl: F10, F11, F12, F13, F15."""

from __future__ import annotations

import asyncio
import random

from tests.fakes.tcp_proxy import DOWN, UP
from tests.faults.catalogue.base import Fault
from tests.faults.world import HEARTBEAT_S, World


async def black_hole(world: World, rng: random.Random) -> None:
    world.injected("F10")
    await world.proxy.black_hole()
    await asyncio.sleep(HEARTBEAT_S * rng.uniform(0.5, 4))
    await world.proxy.heal()


async def one_way(world: World, rng: random.Random) -> None:
    for _ in range(2):
        way = rng.choice((UP, DOWN))
        world.injected("F11", way=way)
        await world.proxy.black_hole(frozenset({way}))
        await asyncio.sleep(HEARTBEAT_S * rng.uniform(0.5, 3))
        await world.proxy.heal()
        await asyncio.sleep(0.3)


async def crawl(world: World, rng: random.Random) -> None:
    latency_s, jitter_s = rng.choice(((0.05, 0.05), (0.2, 0.1), (0.4, 0.4)))
    rate = rng.choice((0, 4_000, 64_000))
    world.injected("F12", latency_s=latency_s, jitter_s=jitter_s, bytes_per_s=rate)
    world.proxy.slow(latency_s=latency_s, jitter_s=jitter_s, bytes_per_s=rate, seed=rng.random())
    await asyncio.sleep(2.5)
    world.proxy.slow()


async def flap(world: World, rng: random.Random) -> None:
    for _ in range(6):
        world.injected("F13")
        await world.proxy.cut()
        await asyncio.sleep(rng.random() * 0.3)
        await world.proxy.heal()
        await asyncio.sleep(rng.random() * 0.6)


async def tamper(world: World, rng: random.Random) -> None:
    world.injected("F15")
    await world.edge.process.ask(
        "tamper", rate=rng.choice((0.02, 0.2)), seed=rng.randrange(1 << 30)
    )
    await asyncio.sleep(2.5)
    spoiled = await world.edge.process.ask("tamper")
    world.history.add("tampered", count=spoiled)
    # What lost bytes of a stream takes the stream along when it goes.
    await world.proxy.cut()
    await world.proxy.heal()


FAULTS = (
    Fault("F10", black_hole),
    Fault("F11", one_way),
    Fault("F12", crawl),
    Fault("F13", flap),
    Fault("F15", tamper, neighbour=True),
)
