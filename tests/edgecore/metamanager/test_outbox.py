"""The outbox through the store: newest wins, order, limits, acknowledgement."""

import pytest

from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Lane, ObjectKey, Op

WEB = ObjectKey("Pod", "default", "web")
ALL = (0, 1000, 1 << 20)


def report(name="web", body=b"x", lane=Lane.PODS, op=Op.UPSERT):
    return Report(ObjectKey("Pod", "default", name), "u-1", body, lane, op)


async def bodies(store, lane=Lane.PODS):
    return [row.report.body for row in await store.unsent(lane, *ALL)]


async def test_the_newest_state_of_a_key_is_the_only_one_kept(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report(body=b"1"), report(body=b"2")]))
        await store.commit(Commit(reports=[report(body=b"3")]))
        assert await bodies(store) == [b"3"]


async def test_the_end_of_a_record_replaces_its_state(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report()]))
        await store.commit(Commit(reports=[report(body=b"", op=Op.TOMBSTONE)]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        assert row.report.op is Op.TOMBSTONE


async def test_every_log_entry_of_a_key_is_kept_beside_its_state(path):
    async with MetaStore(path) as store:
        entries = [report(body=body, op=Op.APPEND) for body in (b"1", b"2")]
        await store.commit(Commit(reports=[report(body=b"s"), *entries]))
        assert await bodies(store) == [b"s", b"1", b"2"]


async def test_rows_come_in_the_order_of_their_versions_after_the_given_one(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report("a"), report("b"), report("c")]))
        await store.commit(Commit(reports=[report("a")]))
        rows = await store.unsent(Lane.PODS, *ALL)
        assert [row.report.key.name for row in rows] == ["b", "c", "a"]
        later = await store.unsent(Lane.PODS, rows[1].version, 10, 1 << 20)
        assert later == rows[2:]


async def test_lanes_are_apart(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report("a"), report("b", lane=Lane.TWINS)]))
        [row] = await store.unsent(Lane.TWINS, *ALL)
        assert row.report.key.name == "b"


async def test_a_batch_is_limited_in_rows_and_bytes_but_never_empty(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report(name, bytes(1000)) for name in "abcd"]))
        assert len(await store.unsent(Lane.PODS, 0, 3, 1 << 20)) == 3
        assert len(await store.unsent(Lane.PODS, 0, 10, 2500)) == 2
        assert len(await store.unsent(Lane.PODS, 0, 10, 1)) == 1


async def test_an_acknowledged_row_is_gone(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report()]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        await store.acknowledge(Lane.PODS, [(row.report.key, row.version)])
        assert await bodies(store) == []


async def test_an_acknowledgement_of_an_older_version_keeps_the_newer_row(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report(body=b"old")]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        await store.commit(Commit(reports=[report(body=b"new")]))
        await store.acknowledge(Lane.PODS, [(row.report.key, row.version)])
        assert await bodies(store) == [b"new"]


@pytest.mark.parametrize(
    ("lane", "key"),
    [(Lane.TWINS, WEB), (Lane.PODS, ObjectKey("Pod", "default", "other"))],
)
async def test_an_acknowledgement_for_another_lane_or_key_deletes_nothing(path, lane, key):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report()]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        await store.acknowledge(lane, [(key, row.version)])
        assert await bodies(store) == [b"x"]


async def test_a_version_is_never_used_twice_even_when_the_outbox_was_empty_at_a_restart(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report("a"), report("b")]))
        rows = await store.unsent(Lane.PODS, *ALL)
        await store.acknowledge(Lane.PODS, [(row.report.key, row.version) for row in rows])
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report("c")]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        assert row.version > rows[-1].version


async def test_unacknowledged_rows_survive_a_restart(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report(body=b"kept")]))
    async with MetaStore(path) as store:
        assert await bodies(store) == [b"kept"]


async def test_the_outbox_feed_tells_which_lanes_got_rows(path):
    async with MetaStore(path) as store:
        feed = store.outbox_feed()
        await store.commit(Commit(reports=[report(), report("b", lane=Lane.TWINS)]))
        await store.commit(Commit(reports=[report()]))
        assert await feed.changed() == {Lane.PODS, Lane.TWINS}
