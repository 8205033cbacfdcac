"""Processes that die, stop, and start again: F01, F02, F03, F17, F26."""

from __future__ import annotations

import asyncio
import random
import signal

from corekit.failpoints import VARIABLE
from tests.faults.catalogue.base import Fault
from tests.faults.world import HEARTBEAT_S, World

EDGE_POINTS = (
    "store.before_write",
    "store.before_commit",
    "store.after_commit",
    "store.before_settle",
    "edgehub.before_commit",
    "edgehub.before_ack",
    "edgehub.after_ack",
    "edgehub.before_forget",
    "edgehub.after_forget",
    "edgehub.before_send",
    "edgehub.after_send",
)
CLOUD_POINTS = (
    "cloudhub.before_write",
    "cloudhub.before_ack",
    "cloudhub.after_ack",
    "cloudhub.before_send",
    "cloudhub.after_send",
)
# A point that is never reached must not hang the run; the run says so instead.
REACH_S = 30.0


async def kill_edge(world: World, rng: random.Random) -> None:
    for _ in range(2):
        await asyncio.sleep(rng.random() * 0.8)
        world.injected("F01")
        await world.edge.restart()


async def kill_cloud(world: World, rng: random.Random) -> None:
    for _ in range(2):
        await asyncio.sleep(rng.random() * 0.8)
        world.injected("F02")
        await world.kill_cloud()
        await asyncio.sleep(rng.random() * 0.3)
        await world.start_cloud()


async def kill_at_edge_point(world: World, rng: random.Random) -> None:
    # By the seed, so that four seeds cover every point.
    for number in range(3):
        point = EDGE_POINTS[(3 * world.seed + number) % len(EDGE_POINTS)]
        hit = rng.randrange(1, 15)
        await world.edge.kill()
        await world.edge.spawn(**{VARIABLE: f"{point}=kill@{hit}"})
        world.edge.expect_end = True
        await _reached(world, point, hit, world.edge.ended())
        await world.edge.start()


async def kill_at_cloud_point(world: World, rng: random.Random) -> None:
    for number in range(2):
        point = CLOUD_POINTS[(2 * world.seed + number) % len(CLOUD_POINTS)]
        hit = rng.randrange(1, 15)
        await world.kill_cloud()
        await world.start_cloud(**{VARIABLE: f"{point}=kill@{hit}"})
        world.expect_cloud_end()
        await _reached(world, point, hit, world.cloud_ended())
        await world.start_cloud()


async def _reached(world: World, point: str, hit: int, ended: object) -> None:
    try:
        async with asyncio.timeout(REACH_S):
            await ended  # type: ignore[misc]
        world.injected("F03", point=point, hit=hit)
    except TimeoutError:
        world.problem(f"failpoint {point} was not reached {hit} times within {REACH_S:.0f} s")
        raise


async def stop_edge(world: World, rng: random.Random) -> None:
    """A slow consumer: the cloud must hold keys, not bodies, and drop the silent stream."""
    world.injected("F17", who="edge")
    world.edge.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(HEARTBEAT_S * rng.uniform(0.5, 4))
    world.edge.process.send_signal(signal.SIGCONT)


async def stop_cloud(world: World, rng: random.Random) -> None:
    """A cloud that does not read: the edge goes on, and dials again."""
    world.injected("F17", who="cloud")
    world.cloud.send_signal(signal.SIGSTOP)
    await asyncio.sleep(HEARTBEAT_S * rng.uniform(0.5, 4))
    world.cloud.send_signal(signal.SIGCONT)


async def restart_offline(world: World, rng: random.Random, times: int = 20) -> None:
    """Everything readable before the cut is readable after each restart: the checker compares at each start."""
    await world.proxy.cut()
    for number in range(times):
        world.injected("F26", restart=number)
        await world.edge.restart(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        await asyncio.sleep(rng.random() * 0.2)
    await world.proxy.heal()


async def restart_offline_few(world: World, rng: random.Random) -> None:
    await restart_offline(world, rng, times=4)


FAULTS = (
    Fault("F01", kill_edge),
    Fault("F02", kill_cloud),
    Fault("F03-edge", kill_at_edge_point),
    Fault("F03-cloud", kill_at_cloud_point),
    Fault("F17-edge", stop_edge, neighbour=True),
    Fault("F17-cloud", stop_cloud),
    Fault("F26", restart_offline),
    Fault("F26-few", restart_offline_few),
)
