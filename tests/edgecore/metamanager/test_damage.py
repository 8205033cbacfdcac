"""Damage on the disk, at rest and while running: found in every case, survived, and never served."""

import asyncio
import json
import logging
import os
import random
import shutil

import pytest

from edgecore.metamanager.recovery import EPOCH_SHIFT
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Delta, Lane, ObjectKey, Op

PAGE = 4096
ALL = (0, 10_000, 64 << 20)


def key(number, kind="Pod"):
    return ObjectKey(kind, "default", f"{kind.lower()}-{number}")


def upsert(number, version=1, kind="Pod"):
    return Delta(Op.UPSERT, key(number, kind), f"uid-{number}", version, body=body(number, version))


def body(number, version):
    return json.dumps({"n": number, "v": version, "pad": "x" * (number * 37 % 900)}).encode()


def report(number, op=Op.UPSERT, lane=Lane.TWINS):
    return Report(key(number, "Device"), "u", body(number, 0), lane, op)


async def fill(store):
    """Objects, states, log rows and notes over some dozens of pages, in two commits."""
    for version in (1, 2):
        await store.commit(
            Commit(
                [upsert(n, version) for n in range(60)],
                [report(n) for n in range(30)]
                + [report(n, Op.APPEND, Lane.SAMPLES) for n in range(30)],
                {("edged", str(n)): body(n, version) for n in range(30)},
            )
        )


async def content(store):
    """Everything the store serves, by name."""
    found = {str(item.key): (item.uid, item.version, item.body) for item in await store.list("Pod")}
    for lane in (Lane.TWINS, Lane.SAMPLES):
        for row in await store.unsent(lane, *ALL):
            found[f"{lane.name} {row.version}"] = row.report
    notes = await store.local("edged")
    return found | {f"note {name}": value for name, value in notes.items()}


async def read_each(store):
    return {str(key(n)): await store.get(key(n)) for n in range(60)}


# Every way a file can be wrong; each gets (random, content) and returns what the file holds then, None: it is gone.


def flip_bit(rng, held):
    held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
    return held


def flip_many(rng, held):
    for _ in range(20):
        flip_bit(rng, held)
    return held


def truncate(rng, held):
    return held[: rng.randrange(len(held))]


def zero_page(rng, held):
    at = rng.randrange(max(len(held) // PAGE, 1)) * PAGE
    held[at : at + PAGE] = bytes(min(PAGE, len(held) - at))
    return held


def swap_pages(rng, held):
    first, second = (rng.randrange(max(len(held) // PAGE, 1)) * PAGE for _ in range(2))
    one, other = held[first : first + PAGE], held[second : second + PAGE]
    if len(one) == len(other):
        held[first : first + PAGE], held[second : second + PAGE] = other, one
    return held


def lose(rng, held):
    return None


MUTATIONS = [flip_bit, flip_many, truncate, zero_page, swap_pages, lose]


async def crashed(folder):
    """Files of a database whose process was killed, most of it in the -wal file; and what was in it."""
    live, copy = folder / "live", folder / "crashed"
    live.mkdir()
    async with MetaStore(live / "edge.db") as store:
        await fill(store)
        shutil.copytree(live, copy)
        return copy, await content(store)


async def stopped(folder):
    """Files of a database that was closed, everything in the main file; and what was in it."""
    folder = folder / "stopped"
    folder.mkdir()
    async with MetaStore(folder / "edge.db") as store:
        await fill(store)
        return folder, await content(store)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("state", [crashed, stopped])
async def test_no_damage_is_served_and_what_is_missing_is_known(state, seed, tmp_path, caplog):
    folder, whole = await state(tmp_path)
    rng = random.Random(f"{state.__name__} {seed}")
    for round_number in range(40):
        work = tmp_path / f"work-{round_number}"
        shutil.copytree(folder, work)
        names = [
            name for name in ("edge.db", "edge.db-wal", "edge.db-shm") if (work / name).exists()
        ]
        name, mutate = rng.choice(names), rng.choice(MUTATIONS)
        damaged = mutate(rng, bytearray((work / name).read_bytes()))
        if damaged is None:
            (work / name).unlink()
        else:
            (work / name).write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            async with MetaStore(work / "edge.db") as store:
                found, objects = await content(store), await read_each(store)
                said, epoch = bool(caplog.records), store.fork >> EPOCH_SHIFT
        where = f"seed {seed}, round {round_number}: {mutate.__name__} of {name}"
        for what, value in found.items():
            # Of the first commit, which is fine if it is known that the second is missing.
            older = said and what.startswith(("Pod", "note")) and value == first(what)
            assert value == whole.get(what) or older, f"{where}: {what}"
        for what, item in objects.items():
            assert (item and (item.uid, item.version, item.body)) == found.get(what), where
        if found != whole:
            assert said, f"{where}: silently lost {len(whole.keys() - found.keys())}"
            assert epoch == 1, where
        shutil.rmtree(work)


async def test_a_bit_inside_a_body_is_found_although_sqlite_sees_nothing(tmp_path, caplog):
    folder, _ = await stopped(tmp_path)
    path = folder / "edge.db"
    held = bytearray(path.read_bytes())
    at = held.index(body(7, 2)) + 3
    held[at] ^= 4
    path.write_bytes(held)
    async with MetaStore(path) as store:
        assert await store.get(key(7)) is None
        assert len(store.index) == 59  # the others were saved
    assert "a row of objects does not match its checksum" in caplog.text


async def test_an_event_for_the_node_names_the_file_and_where_it_went(tmp_path):
    folder, _ = await stopped(tmp_path)
    path = folder / "edge.db"
    path.write_bytes(path.read_bytes()[: 5 * PAGE])
    async with MetaStore(path, node_name="edge-1") as store:
        rows = [row.report for row in await store.unsent(Lane.SAMPLES, *ALL)]
    [event] = [json.loads(row.body) for row in rows if row.key.kind == "Event"]
    assert event["involvedObject"]["kind"] == "Node"
    assert event["involvedObject"]["name"] == "edge-1"
    [aside] = [found for found in folder.glob("edge.db.damaged-*") if found.suffix != ".mark"]
    assert str(aside) in event["message"]


async def test_log_rows_that_could_not_be_saved_are_counted_and_reported(tmp_path):
    folder, whole = await stopped(tmp_path)
    path = folder / "edge.db"
    path.write_bytes(path.read_bytes()[: 5 * PAGE])
    async with MetaStore(path) as store:
        saved = [r for r in await store.unsent(Lane.SAMPLES, *ALL) if r.report.op is Op.APPEND]
        losses = [r.report for r in await store.unsent(Lane.CONTROL, *ALL)]
    before = sum(isinstance(r, Report) and r.op is Op.APPEND for r in whole.values())
    [loss] = [json.loads(r.body) for r in losses if r.key.kind == "Loss"]
    assert loss["reason"] == "damaged"
    assert loss["lane"] == "samples"
    assert loss["count"] == before - len(saved) > 0


async def test_pods_memories_stay_behind_when_not_every_pod_could_be_saved(tmp_path):
    folder, _ = await stopped(tmp_path)
    path = folder / "edge.db"
    held = bytearray(path.read_bytes())
    held[held.index(body(7, 2)) + 3] ^= 4
    path.write_bytes(held)
    async with MetaStore(path) as store:
        # With them edged would end the pod whose record is missing; without, it waits for the cloud.
        assert await store.local("edged") == {}


async def test_only_the_last_damaged_files_are_kept(path):
    for _ in range(4):
        async with MetaStore(path) as store:
            await store.commit(Commit([upsert(1)]))
        path.write_bytes(b"\xff" * PAGE)
    async with MetaStore(path):
        pass
    assert len(list(path.parent.glob("edge.db.damaged-*"))) == 2


async def test_a_database_damaged_while_running_is_replaced_and_the_store_goes_on(path, caplog):
    async with MetaStore(path) as store:
        await fill(store)
    async with MetaStore(path) as store:
        feed, rebuilt = store.feed("Pod"), store.rebuilt_feed()
        held = bytearray(path.read_bytes())
        held[PAGE:] = b"\xff" * (len(held) - PAGE)
        path.write_bytes(held)
        assert await store.list("Pod") == []
        await asyncio.wait_for(rebuilt.changed(), 1)
        assert len(store.index) == 0
        assert is_quiet(feed)  # nobody is told that all pods are gone
        await store.commit(Commit([upsert(1, 3)], [report(1)]))
        assert (await store.get(key(1))).version == 3
        assert await feed.changed() == {key(1)}
        store.converged()  # the cloud has sent everything: the others are gone indeed
        assert len(await feed.changed()) == 59
    assert caplog.text.count("moved aside") == 1
    async with MetaStore(path) as store:
        assert (await store.get(key(1))).version == 3


async def test_writers_and_readers_at_once_all_survive_a_replacement(path):
    async with MetaStore(path) as store:
        await fill(store)
    async with MetaStore(path) as store:
        held = bytearray(path.read_bytes())
        held[PAGE:] = os.urandom(len(held) - PAGE)
        path.write_bytes(held)
        writes = [store.commit(Commit([upsert(n, 9)])) for n in range(50)]
        reads = [store.get(key(n)) for n in range(50)]
        await asyncio.gather(*writes, *reads)
        found = {item.key: item.version for item in await store.list("Pod")}
        # Written to the old file and lost with it, or written to the new one: the index knows which.
        assert all(store.index.version(one) == version for one, version in found.items())
        assert len(store.index) == len(found)


def first(what):
    """What the first commit of `fill` stored."""
    number = int(what.rsplit("-", 1)[-1].removeprefix("note "))
    return body(number, 1) if what.startswith("note") else (f"uid-{number}", 1, body(number, 1))


def is_quiet(feed):
    return not feed._pending
