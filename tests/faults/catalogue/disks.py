"""Disks that fail, fill up, rot, and are copied: F06, F07, F08, F09. And clocks that jump: F20."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from synccore.messages import Lane, Op
from tests.faults import shim
from tests.faults.catalogue.base import CannotError, Fault
from tests.faults.shim import Shim
from tests.faults.world import NODE, Edge, World, first_of

HOUR_S, YEAR_S = 3600.0, 31_557_600.0
SMALL_DISK_BYTES = 6 << 20


async def fail_calls(world: World, rng: random.Random) -> None:
    """The n-th write, fsync or open fails, once or for a while. Nothing may be acknowledged that is not stored."""
    orders = Shim(world.folder)
    world.edge.environment = dict(orders.environment)
    world.edge.may_end = True
    await world.edge.restart()
    for _ in range(3):
        calls = rng.choice((shim.WRITE, shim.SYNC, shim.WRITE | shim.SYNC, shim.TRUNCATE))
        count = rng.choice((1, 1, 3, -1))
        world.injected("F06", calls=calls, count=count)
        orders.fail(calls, skip=rng.randrange(20), count=count)
        await asyncio.sleep(0.7)
        world.history.add("failed_calls", count=orders.mend())
        await world.edge.revive()


async def fail_opening(world: World, rng: random.Random) -> None:
    """The database cannot be opened at start; once it can be, the edge comes up with all that it had."""
    orders = Shim(world.folder)
    world.edge.environment = dict(orders.environment)
    world.edge.may_end = True
    await world.edge.kill()
    world.injected("F06", calls="open")
    orders.fail(rng.choice((shim.OPEN, shim.READ)), skip=rng.randrange(3), count=-1)
    await world.edge.spawn()
    await first_of(world.edge.up.wait(), world.edge.ended())
    world.history.add("failed_calls", count=orders.mend())
    await world.edge.revive()


def on_small_disk(world: World) -> None:
    """Put the edge's state on a file system of its own."""
    if os.geteuid() != 0:
        raise CannotError("only root can mount a small file system")
    options = ("-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "faults", str(world.edge.folder))
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        raise CannotError("this machine does not let us mount a small file system")
    world.on_exit.append(
        lambda: subprocess.run(["umount", "-l", str(world.edge.folder)], check=False) and None
    )


async def fill_disk(world: World, rng: random.Random) -> None:
    """No acknowledgement while full; when there is room it goes on by itself."""
    before = world.edge.process.pid
    filler = world.edge.folder / "filler"
    world.injected("F07")
    _fill(filler)
    key = ("Device", "default", "full")
    async with asyncio.timeout(30):  # room left inside the -wal file may take some writes
        while await world.report([(key, Lane.TWINS, Op.UPSERT)] * 8):
            _fill(filler)
    await asyncio.sleep(rng.random())
    filler.unlink()
    await world.until("the edge stores again", lambda: _stores(world, key))
    if world.edge.process.pid != before:
        world.problem("the edge was restarted by a full disk")


async def _stores(world: World, key) -> bool:
    return bool(await world.report([(key, Lane.TWINS, Op.UPSERT)]))


def _fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


async def damage(world: World, rng: random.Random) -> None:
    """Bits flip, pages vanish, files are cut while the edge is down. Nothing wrong may be believed."""
    for _ in range(2):
        if rng.random() < 0.5:
            await world.pause()
        await world.edge.kill(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        kind = spoil_file(world.edge.path, rng)
        world.injected("F08", kind=kind)
        world.history.add("media_loss", node=NODE)
        world.flowing.set()
        world.edge.may_end = True  # found while running, it may be the next start that rebuilds
        await world.edge.start()
        await asyncio.sleep(0.5)
        await world.edge.revive()


def spoil_file(path: Path, rng: random.Random) -> str:
    """Damage the database at `path`; return how."""
    wal = path.with_name(path.name + "-wal")
    kinds = ["flip", "flips", "zero page", "cut", "garbage", "empty", "no wal", "wal flip"]
    kind = rng.choice([k for k in kinds if wal.exists() or "wal" not in k])
    content = bytearray(path.read_bytes())
    match kind:
        case "flip" | "flips":
            for _ in range(1 if kind == "flip" else 50):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case "zero page":
            start = rng.randrange(max(1, len(content) // 4096)) * 4096
            content[start : start + 4096] = bytes(len(content[start : start + 4096]))
        case "cut":
            del content[rng.randrange(len(content)) :]
        case "garbage":
            content[:] = rng.randbytes(len(content))
        case "empty":
            content.clear()
        case "no wal":
            wal.unlink()
            return kind
        case "wal flip":
            log = bytearray(wal.read_bytes())
            if log:
                log[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
            wal.write_bytes(log)
            return kind
    path.write_bytes(content)
    return kind


async def restore_copy(world: World, rng: random.Random) -> None:
    """An old copy of the state directory comes back: it may not overwrite what is newer."""
    await world.edge.kill(rng.choice((signal.SIGKILL, signal.SIGTERM)))
    copy = world.folder / "backup"
    shutil.copytree(world.edge.folder, copy)
    await world.edge.start()
    await asyncio.sleep(0.5 + rng.random())
    await world.pause()
    await world.edge.kill()
    world.injected("F09", how="restored")
    shutil.rmtree(world.edge.folder)
    shutil.copytree(copy, world.edge.folder)
    world.history.add("media_loss", node=NODE)
    world.flowing.set()
    await world.edge.start()
    await asyncio.sleep(0.3)


async def run_clone(world: World, rng: random.Random) -> None:
    """Two edges with one identity run at once: one of them is fenced, and the cloud never goes back."""
    await world.edge.kill()
    clone = Edge(world, NODE, "clone", world.folder / "clone")
    shutil.copytree(world.edge.folder, clone.folder, dirs_exist_ok=True)
    clone.silent = True  # what it stores is its own; only what it does to the cloud counts
    world.edges.append(clone)
    await world.edge.start()
    world.injected("F09", how="cloned")
    await clone.start()
    await asyncio.sleep(1.5 + rng.random())
    await clone.kill(signal.SIGTERM)


async def jump_clock(world: World, rng: random.Random) -> None:
    """The wall clock jumps both ways; order and delivery must not notice."""
    orders = Shim(world.folder)
    world.edge.environment = dict(orders.environment)
    await world.edge.restart()
    for _ in range(4):
        offset_s = rng.choice((-1, 1)) * rng.choice((1.0, HOUR_S, HOUR_S, 10 * YEAR_S))
        world.injected("F20", offset_s=offset_s)
        orders.move_clock(offset_s)
        if rng.random() < 0.5:
            await world.edge.restart()
        await asyncio.sleep(rng.random() * 0.8)
    orders.move_clock(rng.choice((0, -HOUR_S, HOUR_S)))


FAULTS = (
    Fault("F06", fail_calls),
    Fault("F06-open", fail_opening),
    Fault("F07", fill_disk, prepare=on_small_disk),
    # No probe of what a resume costs: damage may be found as late as then, and what it took is sent as well.
    Fault("F08", damage, resume_probe=False),
    Fault("F09", restore_copy),
    Fault("F09-clone", run_clone),
    Fault("F20", jump_clock),
)
