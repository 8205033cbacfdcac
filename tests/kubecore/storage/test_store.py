from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest

from kubecore.storage.database import UNCLEAN_SKIP, Database, Row
from kubecore.storage.errors import StoreOpenError, StoreWriteError
from kubecore.storage.store import Store


def thing(name, namespace="default", **fields):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata, **fields}


@contextlib.asynccontextmanager
async def opened(path):
    async with Store(path) as store:
        yield store


@pytest.fixture
async def store(tmp_path):
    async with opened(tmp_path / "k.db") as started:
        yield started


async def test_what_was_stored_is_there_after_a_restart(tmp_path):
    async with opened(tmp_path / "k.db") as store:
        first = await store.put("things", thing("a", x=1))
    async with opened(tmp_path / "k.db") as store:
        assert store.get("things", "default", "a").raw == first.raw
        assert store.revision == first.revision


async def test_a_deleted_object_stays_deleted_after_a_restart(tmp_path):
    async with opened(tmp_path / "k.db") as store:
        await store.put("things", thing("a"))
        removed = await store.remove("things", thing("a"))
    async with opened(tmp_path / "k.db") as store:
        assert store.get("things", "default", "a") is None
        assert store.revision == removed.revision


async def test_a_change_is_read_only_once_it_is_durable(store):
    pending = asyncio.ensure_future(store.put("things", thing("a")))
    await asyncio.sleep(0)
    assert store.get("things", "default", "a") is None
    assert store.latest("things", "default", "a") is not None
    await pending
    assert store.get("things", "default", "a") is not None


async def test_changes_reach_listeners_in_the_order_of_their_revisions(store):
    seen = []
    store.listen(seen.append)
    await asyncio.gather(*(store.put("things", thing(f"t{i % 7}", n=i)) for i in range(500)))
    revisions = [change.entry.revision for change in seen]
    assert revisions == sorted(revisions)
    assert len(seen) == 500
    assert store.revision == revisions[-1]


async def test_delete_create_delete_in_one_batch_leaves_nothing(store):
    await store.put("things", thing("a"))
    await asyncio.gather(
        store.remove("things", thing("a")),
        store.put("things", thing("a")),
        store.remove("things", thing("a")),
    )
    assert store.latest("things", "default", "a") is None
    assert store.entries("things") == []


async def test_entries_are_ordered_by_namespace_and_name(store):
    for namespace, name in [("b", "x"), ("a", "z"), ("a", "b"), ("ab", "a")]:
        await store.put("things", thing(name, namespace))
    assert [(e.namespace, e.name) for e in store.entries("things")] == [
        ("a", "b"),
        ("a", "z"),
        ("ab", "a"),
        ("b", "x"),
    ]
    assert [e.name for e in store.entries("things", "a")] == ["b", "z"]


async def test_the_revision_skips_ahead_after_an_unclean_end(tmp_path):
    path = tmp_path / "k.db"
    database = Database(path)
    database.write([Row("things", "", "a", 7, b"{}")])
    database._db.close()  # the process dies here
    reopened = Database(path)
    assert reopened.revision == 7 + UNCLEAN_SKIP
    reopened.close(reopened.revision)


async def test_a_failed_commit_undoes_itself_and_what_was_built_on_it(store):
    await store.put("things", thing("a", x=1))
    store._database._db.execute("PRAGMA query_only = 1")  # as a disk that went read-only
    results = await asyncio.gather(
        *(store.put("things", thing("a", x=i)) for i in range(2, 6)), return_exceptions=True
    )
    assert all(isinstance(result, StoreWriteError) for result in results)
    assert store.latest("things", "default", "a").parse()["x"] == 1
    store._database._db.execute("PRAGMA query_only = 0")
    again = await store.put("things", thing("a", x=9))
    assert store.get("things", "default", "a") is again


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "k.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreOpenError, match=r"k\.db: is damaged") as caught:
        Database(path)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_torn_page_is_refused(tmp_path):
    path = tmp_path / "k.db"
    database = Database(path)
    database.write([Row("things", "", f"n{i}", i, b"x" * 2000) for i in range(1, 200)])
    database.close(199)
    raw = bytearray(path.read_bytes())
    raw[8192 : 8192 + 3000] = b"\xff" * 3000
    path.write_bytes(raw)
    with pytest.raises(StoreOpenError, match="is damaged"):
        Database(path)


def test_a_second_process_on_the_same_file_is_refused(tmp_path):
    database = Database(tmp_path / "k.db")
    with pytest.raises(StoreOpenError, match="is in use by another process"):
        Database(tmp_path / "k.db")
    database.close(1)


def test_a_file_of_a_newer_release_is_refused(tmp_path):
    path = tmp_path / "k.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreOpenError, match="newer release"):
        Database(path)
