"""A Kubernetes API that loses watches, storms, and forgets: F22, F23, F24. The cloud is the whole cloudcore."""

from __future__ import annotations

import asyncio
import random

from tests.fakes.kubeapi import Fault as ApiFault
from tests.faults.catalogue.base import Fault
from tests.faults.kubeworld import KubeWorld

WATCH_FAULTS = ("close", "cut", "gone", "garbage", "bookmark", "drop")
STATUSES = (429, 500, 503, 504)


async def spoil_watches(world: KubeWorld, rng: random.Random) -> None:
    """Watches end in every way there is, history is forgotten, lists fail."""
    for _ in range(6):
        how = rng.choice((*WATCH_FAULTS, "compact"))
        world.injected("F22", how=how)
        if how == "compact":
            world.api.compact()
        else:
            world.api.faults.extend(ApiFault("watch", how=how) for _ in range(4))
        if rng.random() < 0.5:
            world.api.faults.append(ApiFault("list", status=rng.choice(STATUSES)))
        world.api.drop_connections()
        await asyncio.sleep(rng.random() * 0.5)


async def storm(world: KubeWorld, rng: random.Random) -> None:
    """Every kind of request fails for a while."""
    for _ in range(3):
        status = rng.choice(STATUSES)
        world.injected("F22", how="storm", status=status)
        for verb in ("list", "watch", "patch", "post", "get"):
            world.api.faults.extend(ApiFault(verb, status=status) for _ in range(rng.randrange(6)))
        if rng.random() < 0.5:
            world.api.drop_connections()
        await asyncio.sleep(rng.random() * 0.8)
    world.api.faults.clear()


async def go_back(world: KubeWorld, rng: random.Random) -> None:
    """The API's database is restored from a backup: resourceVersions go back, and so does what is wanted."""
    await world.pause()
    snapshot = world.api.snapshot()
    world.flowing.set()
    await asyncio.sleep(0.5 + rng.random())
    await world.pause()
    world.injected("F23")
    world.rewind(snapshot)
    world.flowing.set()
    await asyncio.sleep(0.3)


async def churn(world: KubeWorld, rng: random.Random) -> None:
    """The same names are made and deleted over and over, also while the edge is away."""
    keys = [("Pod", "default", f"churn{n}") for n in range(3)]
    for number in range(300):
        if number == 100:
            await world.proxy.cut()
        elif number == 200:
            await world.proxy.heal()
        if number % 20 == 0:
            world.injected("F24")
        key = rng.choice(keys)
        if key in world.records:
            world.drop(key)
        else:
            world.put(key)
        if rng.random() < 0.3:
            await asyncio.sleep(0.005)


async def outage(world: KubeWorld, rng: random.Random) -> None:
    """The API drops every request for some seconds, then serves; nothing reported meanwhile is lost."""
    world.injected("F22", how="outage")
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 2
    while loop.time() < until_s:
        for verb in ("list", "watch", "patch", "post", "get"):
            world.api.faults.append(ApiFault(verb, how="drop"))
        world.api.drop_connections()
        await asyncio.sleep(0.02)
    world.api.faults.clear()


FAULTS = (
    Fault("F22", spoil_watches, world=KubeWorld, resume_probe=False),
    Fault("F22-storm", storm, world=KubeWorld, resume_probe=False),
    Fault("F22-out", outage, world=KubeWorld, resume_probe=False),
    Fault("F23", go_back, world=KubeWorld, resume_probe=False),
    Fault("F24", churn, world=KubeWorld, resume_probe=False),
)
