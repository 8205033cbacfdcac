"""A disk that is full or fails: nothing is called durable that is not, and it goes on by itself."""

import asyncio
import logging
import os
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from edgecore.metamanager.errors import StoreFullError, StoreIOError
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Delta, Lane, ObjectKey, Op

BODY = os.urandom(50_000)


def upsert(number):
    return Delta(Op.UPSERT, ObjectKey("Pod", "default", f"pod-{number}"), "u", 1, body=BODY)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_stops_commits_with_one_warning_and_goes_on_when_there_is_room(
    small_disk, caplog
):
    caplog.set_level(logging.INFO)
    async with MetaStore(small_disk / "edge.db") as store:
        stored = 0
        with suppress(StoreFullError):
            while stored < 100:
                await store.commit(Commit([upsert(stored)]))
                stored += 1
        assert stored < 30
        for _ in range(10):
            with pytest.raises(StoreFullError):
                await store.commit(Commit([upsert(99)]))
        assert len(store.index) == stored == len(await store.list("Pod"))
        assert sum(r.levelno >= logging.WARNING for r in caplog.records) == 1
        larger = ["mount", "-o", "remount,size=4m", str(small_disk)]
        await asyncio.to_thread(subprocess.run, larger, check=True)
        await store.commit(Commit([upsert(99)]))
        assert "works again" in caplog.text
    async with MetaStore(small_disk / "edge.db") as store:
        assert len(store.index) == stored + 1


async def test_damage_on_a_full_disk_is_mended_when_there_is_room(small_disk):
    path = small_disk / "edge.db"
    async with MetaStore(path) as store:
        await store.commit(Commit([upsert(number) for number in range(8)]))
    async with MetaStore(path) as store:
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
        disk = os.statvfs(small_disk)
        (small_disk / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - 8192))
        reading = asyncio.ensure_future(store.list("Pod"))
        await asyncio.sleep(0.3)
        assert not reading.done()  # who reads waits, and the process goes on
        (small_disk / "filler").unlink()
        assert await asyncio.wait_for(reading, 4) == []
        await store.commit(Commit([upsert(1)]))


async def test_an_io_error_refuses_the_commit_and_the_next_works_once_it_is_over(path, caplog):
    async with MetaStore(path) as store:
        await store.commit(Commit([upsert(1)]))
        with failing_writes(path.with_name("edge.db-wal")):
            for number in (2, 3):
                with pytest.raises(StoreIOError) as caught:
                    await store.commit(Commit([upsert(number)]))
                assert caught.value.retryable
        assert len(store.index) == 1
        await store.commit(Commit([upsert(4)]))
        assert [item.key.name for item in await store.list("Pod")] == ["pod-1", "pod-4"]
    assert sum(r.levelno >= logging.WARNING for r in caplog.records) == 1
    async with MetaStore(path) as store:
        assert len(store.index) == 2


async def test_a_version_of_a_commit_that_failed_is_not_used_again(path):
    report = Report(ObjectKey("Pod", "default", "web"), "u", BODY, Lane.PODS)
    async with MetaStore(path) as store:
        await store.commit(Commit(reports=[report]))
        with failing_writes(path.with_name("edge.db-wal")), pytest.raises(StoreIOError):
            await store.commit(Commit(reports=[report]))
        await store.commit(Commit(reports=[report]))
        [row] = await store.unsent(Lane.PODS, 0, 10, 1 << 20)
        assert row.version == 3


@contextmanager
def failing_writes(path):
    """Make every write to an open file of this process fail, as a dying disk does, until the block ends."""
    descriptors = [
        int(entry.name)
        for entry in Path("/proc/self/fd").iterdir()
        if entry.exists() and entry.resolve() == path.resolve()
    ]
    assert descriptors, f"{path} is not open"
    saved = {number: os.dup(number) for number in descriptors}
    unwritable = os.open(path, os.O_RDONLY)
    try:
        for number in descriptors:
            os.dup2(unwritable, number)
        yield
    finally:
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)
        os.close(unwritable)
