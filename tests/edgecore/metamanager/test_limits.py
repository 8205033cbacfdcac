"""Bounds of the log rows: what gives way, that it is counted, and that the loss is a record like any other."""

import itertools
import json

import pytest

from corekit.errors import ConfigError
from corekit.settings import settings_from_tree
from edgecore.metamanager.errors import OutboxFullError
from edgecore.metamanager.limits import LogRow, oldest, thin
from edgecore.metamanager.store import MetaStore
from edgecore.metamanager.transaction import Chore
from edgecore.records import Commit, Report
from edgecore.settings import OutboxPolicySettings, StoreSettings
from synccore.messages import Lane, ObjectKey, Op

ALL = (0, 10_000, 64 << 20)
BODY = bytes(range(256)) * 400  # 100 KiB


def settings(policy, max_bytes=4 << 20, **more):
    policies = OutboxPolicySettings(samples=policy)
    return StoreSettings(outbox_max_bytes=max_bytes, outbox_policy=policies, **more)


def entry(number, name="s"):
    return Report(
        ObjectKey("Sample", "default", name), "", b"%d " % number + BODY, Lane.SAMPLES, Op.APPEND
    )


async def waiting(store, lane=Lane.SAMPLES):
    """What waits in `lane`: (sequence, number) of each log entry."""
    rows = await store.unsent(lane, *ALL)
    return [(row.version, int(row.report.body.split()[0])) for row in rows]


async def losses(store):
    rows = [row.report for row in await store.unsent(Lane.CONTROL, *ALL)]
    return [json.loads(report.body) for report in rows if report.key.kind == "Loss"]


async def append(store, count):
    for number in range(1, count + 1):
        await store.commit(Commit(reports=[entry(number)]))


async def test_the_oldest_entries_give_way_and_the_loss_says_which(path):
    async with MetaStore(path, settings("drop-oldest")) as store:
        await append(store, 60)
        left = await waiting(store)
        [loss] = await losses(store)
        assert [number for _, number in left] == list(range(61 - len(left), 61))
        assert loss["count"] == 60 - len(left) > 0
        assert loss["reason"] == "drop-oldest"
        assert loss["firstSequence"] == 1
        assert loss["lastSequence"] < left[0][0]
        assert loss["bytes"] >= loss["count"] * len(BODY)
    async with MetaStore(path, settings("drop-oldest")) as store:
        assert await losses(store) == [loss]  # durable like any other


async def test_thinning_keeps_the_shape_of_the_series(path):
    async with MetaStore(path, settings("thin")) as store:
        await append(store, 60)
        numbers = [number for _, number in await waiting(store)]
        assert numbers[0] == 1
        assert numbers[-1] == 60
        gaps = [b - a for a, b in itertools.pairwise(numbers)]
        assert gaps[-15:] == [1] * 15  # what is old loses detail first
        assert max(gaps) <= 16
        [loss] = await losses(store)
        assert loss["reason"] == "thin"
        assert loss["count"] == 60 - len(numbers)


async def test_a_lane_that_rejects_says_so_and_keeps_what_it_has(path):
    async with MetaStore(path, settings("reject")) as store:
        with pytest.raises(OutboxFullError) as caught:
            await append(store, 60)
        assert caught.value.retryable
        before = await waiting(store)
        state = Report(ObjectKey("Node", "", "n"), "", b"{}", Lane.SAMPLES)
        await store.commit(Commit(reports=[state]))  # states are not bounded by it
        await store.acknowledge(Lane.SAMPLES, [(entry(1).key, before[0][0])])
        await store.commit(Commit(reports=[entry(99)]))  # there is room again
        assert await losses(store) == []  # nothing that was taken was lost


async def test_a_rejected_entry_does_not_fail_its_neighbours_and_the_count_stays_true(path):
    async with MetaStore(path, settings("reject")) as store:
        with pytest.raises(OutboxFullError):
            await append(store, 60)
        held = len(await waiting(store))
        await store.commit(Commit(local={("a", "b"): b"c"}))
        assert held == store._files.transactor.mark.log_counts[Lane.SAMPLES]


async def test_entries_beyond_their_age_are_dropped_and_counted(path):
    async with MetaStore(path, settings("drop-oldest", outbox_max_age_s=0.000_001)) as store:
        await append(store, 3)
        while await waiting(store):  # the last may be of this very millisecond, and so not older
            await store._submit(Chore.EXPIRE)
        [loss] = await losses(store)
        assert (loss["reason"], loss["count"]) == ("too-old", 3)


async def test_a_loss_that_waits_grows_and_a_new_one_starts_after_it_was_taken(path):
    async with MetaStore(path, settings("drop-oldest")) as store:
        await append(store, 60)
        [first] = await losses(store)
        await append(store, 60)
        [grown] = await losses(store)
        assert grown["count"] > first["count"]
        assert grown["firstSequence"] == first["firstSequence"]
        rows = await store.unsent(Lane.CONTROL, *ALL)
        await store.acknowledge(Lane.CONTROL, [(row.report.key, row.version) for row in rows])
        await append(store, 60)
        [second] = await losses(store)
        assert second["firstSequence"] > grown["lastSequence"]
        everything = grown["count"] + second["count"] + len(await waiting(store))
        assert everything == 180


async def test_every_entry_is_acknowledged_or_waiting_or_counted_as_lost(path):
    acknowledged = 0
    async with MetaStore(path, settings("thin")) as store:
        for _ in range(4):
            await append(store, 50)
            rows = (await store.unsent(Lane.SAMPLES, *ALL))[:5]
            await store.acknowledge(Lane.SAMPLES, [(r.report.key, r.version) for r in rows])
            acknowledged += len(rows)
        lost = sum(loss["count"] for loss in await losses(store))
        assert acknowledged + lost + len(await waiting(store)) == 200


def test_thin_takes_every_second_of_each_key_and_oldest_takes_the_fewest():
    rows = [LogRow(n, ObjectKey("S", "", "ab"[n % 2]), 10, n) for n in range(12)]
    assert [row.version for row in thin(rows, 1000)] == [2, 3, 6, 7, 10, 11]
    assert [row.version for row in thin(rows, 15)] == [2, 3]
    assert [row.version for row in oldest(rows, 15)] == [0, 1]
    assert oldest(rows, 0) == []


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"outbox_max_bytes": 1}, "less than"),
        ({"outbox_max_age_s": 0.0}, "not more than 0"),
        ({"outbox_policy": {"samples": "forget"}}, "is not one of reject, drop-oldest, thin"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(tree, words):
    with pytest.raises(ConfigError, match=words):
        settings_from_tree("file", tree, StoreSettings)
