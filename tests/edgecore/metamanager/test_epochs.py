"""Copies of a database: what the Hello will say of them, and what is dropped when the cloud turns one away."""

import shutil

import pytest

from edgecore.metamanager.recovery import EPOCH_SHIFT
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Delta, Lane, ObjectKey, Op

ALL = (0, 1000, 1 << 20)
WEB = ObjectKey("Pod", "default", "web")


def state(body=b"{}"):
    return Report(WEB, "u", body, Lane.PODS)


def log():
    return Report(WEB, "u", b"{}", Lane.SAMPLES, Op.APPEND)


async def test_a_restart_after_a_welcome_starts_its_line_where_the_last_run_ended(path):
    async with MetaStore(path) as store:
        assert store.fork == 0
        await store.welcomed()
        await store.commit(Commit(reports=[state(), log()]))
        first = store.run_id
    async with MetaStore(path) as store:
        assert store.fork == 2
        assert store.run_id != first


async def test_runs_without_a_link_do_not_move_the_line(path):
    async with MetaStore(path) as store:
        await store.welcomed()
        await store.commit(Commit(reports=[state()]))
    for _ in range(3):
        async with MetaStore(path) as store:
            await store.commit(Commit(reports=[state()]))
            assert (
                store.fork == 1
            )  # so a copy that wrote much while it was offline is known all the same


async def test_a_copy_has_the_identity_but_not_the_run(path, tmp_path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[state()]))
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "edge.db"
    shutil.copy(path, copy)
    async with MetaStore(path) as store, MetaStore(copy) as other:
        assert store.database_id == other.database_id
        assert store.run_id != other.run_id


async def test_a_new_epoch_drops_states_keeps_log_rows_and_never_uses_a_version_again(path):
    async with MetaStore(path) as store:
        await store.commit(Commit([Delta(Op.UPSERT, WEB, "u", 1)], [state(), log()]))
        await store.start_epoch()
        assert store.must_report_all
        assert await store.unsent(Lane.PODS, *ALL) == []
        assert len(await store.unsent(Lane.SAMPLES, *ALL)) == 1
        assert store.index.version(WEB) == 1  # the digest tells what of it is old
        assert store.fork == 1 << EPOCH_SHIFT
        await store.commit(Commit(reports=[state()]))
        [row] = await store.unsent(Lane.PODS, *ALL)
        assert row.version == (1 << EPOCH_SHIFT) + 1
    async with MetaStore(path) as store:
        assert store.must_report_all  # until somebody was asked
        await store.reported_all()
        assert not store.must_report_all


@pytest.mark.parametrize("lost", ["edge.db-wal", "edge.db"])
async def test_files_of_an_earlier_moment_are_known_by_the_mark(path, lost, tmp_path, caplog):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[state(b"old")]))
    earlier = path.read_bytes()
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[state(b"new")]))
        identity = store.database_id
        if lost == "edge.db-wal":
            crashed = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    if lost == "edge.db":
        path.write_bytes(earlier)
    else:
        for name, content in crashed.items():
            (path.parent / name).write_bytes(content)
        (path.parent / "edge.db-wal").unlink()
    async with MetaStore(path) as store:
        assert "transactions are missing" in caplog.text
        assert store.database_id == identity
        assert store.fork >> EPOCH_SHIFT == 1
        assert await store.unsent(Lane.PODS, *ALL) == []  # b"old" was overtaken
        assert store.must_report_all


async def test_a_deleted_database_comes_back_under_its_own_name_in_a_new_epoch(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[state()]))
        identity = store.database_id
    path.unlink()
    async with MetaStore(path) as store:
        assert store.database_id == identity
        assert store.fork >> EPOCH_SHIFT == 1


async def test_a_mark_that_is_damaged_or_missing_is_only_a_check_less(path):
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[state()]))
    mark = path.with_name("edge.db.mark")
    for content in (b"", b"x" * 200, mark.read_bytes()[:-1] + b"\xff"):
        mark.write_bytes(content)
        async with MetaStore(path) as store:
            assert store.fork >> EPOCH_SHIFT == 0
            assert len(await store.unsent(Lane.PODS, *ALL)) == 1


async def test_copies_log_under_numbers_of_their_own_and_keep_them_in_a_new_epoch(path, tmp_path):
    async with MetaStore(path) as store:  # never welcomed: the line has not left its beginning
        await store.commit(Commit(reports=[log() for _ in range(50)]))
        shared = [row.version for row in await store.unsent(Lane.SAMPLES, *ALL)]
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "edge.db"
    shutil.copy(path, copy)
    numbers = []
    for place in (path, copy):
        async with MetaStore(place) as store:
            assert store.fork == 0
            await store.commit(Commit(reports=[log() for _ in range(50)]))
            before = [row.version for row in await store.unsent(Lane.SAMPLES, *ALL)]
            await store.start_epoch()
            after = [row.version for row in await store.unsent(Lane.SAMPLES, *ALL)]
            # The cloud has some of them: it knows them by their numbers.
            assert after == before
            assert before[:50] == shared
            numbers.append(set(before[50:]))
    assert not numbers[0] & numbers[1]


async def test_openings_leave_the_epoch_alone_and_never_go_back(path):
    last = 0
    for _ in range(20):
        async with MetaStore(path) as store:
            await store.commit(Commit(reports=[state()]))
            (row,) = await store.unsent(Lane.PODS, *ALL)
            assert row.version > last
            last = row.version
    assert last >> EPOCH_SHIFT == 0
    assert last > 1 << 32  # there were gaps
