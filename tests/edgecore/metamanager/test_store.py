"""The store through its public face, on real files."""

import asyncio
import resource
from contextlib import contextmanager

import pytest

from corekit.errors import StoreError
from edgecore.metamanager.errors import StoreFullError
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.index import key_hash
from synccore.messages import Delta, Lane, ObjectKey, Op

WEB = ObjectKey("Pod", "default", "web")
LAMP = ObjectKey("Device", "default", "lamp")


def upsert(key, version=1, body=b"{}", uid="u-1"):
    return Delta(Op.UPSERT, key, uid, version, body=body)


async def test_what_was_committed_is_read_back_after_a_restart(path):
    commit = Commit([upsert(WEB, body=b"web")], [], {("edged", "ids"): b"c-1"})
    async with MetaStore(path) as store:
        await store.commit(commit)
    async with MetaStore(path) as store:
        assert (await store.get(WEB)).body == b"web"
        assert await store.local("edged") == {"ids": b"c-1"}
        assert store.index.version(WEB) == 1


async def test_the_identity_of_a_database_survives_a_restart(path):
    async with MetaStore(path) as store:
        identity = store.database_id
    async with MetaStore(path) as store:
        assert store.database_id == identity
        assert len(identity) == 16


@pytest.mark.parametrize("version", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
async def test_every_64_bit_version_comes_back_as_it_was(path, version):
    async with MetaStore(path) as store:
        await store.commit(Commit([upsert(WEB, version)]))
        assert (await store.get(WEB)).version == version
    async with MetaStore(path) as store:
        assert store.index.version(WEB) == version


async def test_listing_is_of_one_kind_and_sorted_by_key(path):
    names = ["b", "a", "c"]
    async with MetaStore(path) as store:
        pods = [upsert(ObjectKey("Pod", "default", name)) for name in names]
        await store.commit(Commit([*pods, upsert(LAMP)]))
        assert [found.key.name for found in await store.list("Pod")] == ["a", "b", "c"]


async def test_a_tombstone_deletes(path):
    async with MetaStore(path) as store:
        await store.commit(Commit([upsert(WEB)]))
        await store.commit(Commit([Delta(Op.TOMBSTONE, WEB, "u-1", 2)]))
        assert await store.get(WEB) is None
        assert len(store.index) == 0


async def test_forget_deletes_by_key_hash_and_tells_the_key(path):
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        await store.commit(Commit([upsert(WEB), upsert(LAMP)]))
        await feed.changed()
        nameless = ObjectKey("", "", "")
        await store.commit(Commit([Delta(Op.FORGET, nameless, "", key_hash(WEB))]))
        assert await feed.changed() == {WEB}
        assert store.index.keys() == [LAMP]


async def test_deltas_of_one_commit_apply_in_order(path):
    async with MetaStore(path) as store:
        gone = Delta(Op.TOMBSTONE, WEB, "u-1", 2)
        await store.commit(Commit([upsert(WEB, 1), gone, upsert(WEB, 3, uid="u-2")]))
        assert (await store.get(WEB)).uid == "u-2"
        assert store.index.version(WEB) == 3


async def test_a_note_of_none_is_deleted(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(local={("a", "k"): b"1", ("b", "k"): b"2"}))
        await store.commit(Commit(local={("a", "k"): None}))
        assert await store.local("a") == {}
        assert await store.local("b") == {"k": b"2"}


async def test_a_feed_coalesces_and_tells_only_of_its_kinds(path):
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        for version in range(1, 20):
            await store.commit(Commit([upsert(WEB, version), upsert(LAMP, version)]))
        assert await feed.changed() == {WEB}
        assert await is_quiet(feed)


async def test_a_redelivered_delta_is_not_told_again(path):
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        await store.commit(Commit([upsert(WEB, 7)]))
        await feed.changed()
        await store.commit(Commit([upsert(WEB, 7)]))
        assert await is_quiet(feed)


async def test_a_tombstone_of_what_is_not_there_is_not_told(path):
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        await store.commit(Commit([Delta(Op.TOMBSTONE, WEB, "u-1", 1)]))
        assert await is_quiet(feed)


async def test_the_index_has_a_change_before_the_feed_tells_of_it(path):
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        async with asyncio.TaskGroup() as group:
            told = group.create_task(feed.changed())
            group.create_task(store.commit(Commit([upsert(WEB, 5)])))
            await told
            assert store.index.version(WEB) == 5


async def test_concurrent_commits_share_transactions(path):
    async with MetaStore(path) as store:
        keys = [ObjectKey("Pod", "default", str(number)) for number in range(500)]
        await asyncio.gather(*(store.commit(Commit([upsert(key)])) for key in keys))
        assert len(await store.list("Pod")) == 500
        assert store.transaction_count <= 10


async def test_more_callers_than_the_queue_holds_wait_and_are_all_stored(path):
    async with MetaStore(path) as store:
        reports = [
            Report(ObjectKey("Pod", "default", str(n)), "u", b"x", Lane.PODS) for n in range(3000)
        ]
        await asyncio.gather(*(store.commit(Commit(reports=[report])) for report in reports))
        assert len(await store.unsent(Lane.PODS, 0, 5000, 1 << 20)) == 3000


async def test_a_commit_that_cannot_be_stored_does_not_fail_its_neighbours(path):
    bad = upsert(ObjectKey("Pod", "default", "\ud800"))  # a lone surrogate has no UTF-8
    async with MetaStore(path) as store:
        outcomes = await asyncio.gather(
            store.commit(Commit([upsert(LAMP)])),
            store.commit(Commit([bad])),
            store.commit(Commit([upsert(WEB)])),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], StoreError)
        assert outcomes[::2] == [None, None]
        assert set(store.index.keys()) == {WEB, LAMP}


async def test_a_cancelled_caller_leaves_the_others_and_the_store_in_order(path):
    async with MetaStore(path) as store:
        keys = [ObjectKey("Pod", "default", str(number)) for number in range(20)]
        tasks = [asyncio.ensure_future(store.commit(Commit([upsert(key)]))) for key in keys]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[1::2] == [None] * 10
        await store.commit(Commit([upsert(LAMP)]))
        assert {LAMP, *keys[1::2]} <= set(store.index.keys())
        assert {item.key for item in await store.list("Pod")} | {LAMP} == set(store.index.keys())


@pytest.mark.parametrize(
    "commit",
    [
        pytest.param(Commit([upsert(WEB, -1)]), id="negative-version"),
        pytest.param(Commit([upsert(WEB, 1 << 64)]), id="version-of-65-bits"),
        pytest.param(Commit([Delta(Op.APPEND, WEB, "u", 1)]), id="append-downstream"),
        pytest.param(
            Commit(reports=[Report(WEB, "u", b"", Lane.PODS, Op.FORGET)]), id="forget-upstream"
        ),
    ],
)
async def test_a_commit_that_means_nothing_is_refused_whole(path, commit):
    async with MetaStore(path) as store:
        both = Commit([upsert(LAMP), *commit.deltas], commit.reports)
        with pytest.raises(StoreError):
            await store.commit(both)
        assert await store.get(LAMP) is None
        assert len(store.index) == 0


async def test_a_read_that_sqlite_cannot_take_is_a_store_error(path):
    async with MetaStore(path) as store:
        with pytest.raises(StoreError):
            await store.get(ObjectKey("Pod", "default", "\ud800"))


async def test_a_full_disk_refuses_and_goes_on_once_there_is_room(path):
    body = bytes(range(256)) * 1024
    async with MetaStore(path) as store:
        feed = store.feed("Pod")
        await store.commit(Commit([upsert(LAMP)]))
        with no_file_larger_than(128 << 10), pytest.raises(StoreFullError) as caught:
            await store.commit(Commit([upsert(WEB, body=body)]))
        assert caught.value.retryable
        assert store.index.version(WEB) is None
        assert await is_quiet(feed)
        await store.commit(Commit([upsert(WEB, body=body)]))
    async with MetaStore(path) as store:
        assert (await store.get(WEB)).body == body


async def test_what_was_asked_for_before_the_end_is_stored(path):
    store = MetaStore(path)
    async with store:
        asked = [asyncio.ensure_future(store.commit(Commit([upsert(WEB)])))]
        await asyncio.sleep(0)
    await asyncio.gather(*asked)
    async with MetaStore(path) as again:
        assert await again.get(WEB)


async def test_a_closed_store_says_so(path):
    async with MetaStore(path) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.commit(Commit([upsert(WEB)]))


@contextmanager
def no_file_larger_than(limit_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def is_quiet(feed):
    """Whether the feed has nothing to tell; a commit notifies before it returns, so no wait is needed."""
    try:
        async with asyncio.timeout(0.01):
            await feed.changed()
    except TimeoutError:
        return True
    return False
