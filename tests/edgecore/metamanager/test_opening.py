"""From a path to an open database: what is refused, what is moved aside, and with which words."""

import asyncio
import logging
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from corekit.errors import ConfigError
from edgecore.metamanager.errors import SchemaVersionError
from edgecore.metamanager.recovery import EPOCH_SHIFT
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit
from synccore.messages import Delta, ObjectKey, Op

WEB = Delta(Op.UPSERT, ObjectKey("Pod", "default", "web"), "u-1", 1, body=bytes(5000))
NOBODY = 65534


async def test_the_files_are_private_and_nothing_else_is_left(path):
    async with MetaStore(path) as store:
        await store.commit(Commit([WEB]))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        files = {"edge.db", "edge.db-wal", "edge.db-shm", "edge.db.lock", "edge.db.mark"}
        assert set(modes) == files
        assert set(modes.values()) == {0o600}


async def test_a_missing_directory_is_refused_by_name(tmp_path):
    missing = tmp_path / "not-there"
    with pytest.raises(ConfigError, match=f"^{re.escape(str(missing))}: .*No such file"):
        await opened(missing / "edge.db")


async def test_a_read_only_directory_is_refused_by_name():
    with read_only_directory() as directory:
        with pytest.raises(ConfigError, match=f"^{directory}: .*Permission denied"):
            await opened(directory / "edge.db")
        assert list(directory.iterdir()) == []


async def test_a_database_that_is_a_directory_is_refused_by_name(path):
    path.mkdir()
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: .*Is a directory"):
        await opened(path)


async def test_a_second_process_is_refused_and_told_who_has_the_database(path):
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from edgecore.metamanager.store import MetaStore\n"
        "asyncio.run(MetaStore(Path(sys.argv[1])).__aenter__())\n"
    )
    async with MetaStore(path):
        second = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script, path],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode != 0
    assert second.stderr.splitlines()[-1].endswith(
        f"{path}: in use by another process (pid {os.getpid()})"
    )


async def test_the_lock_is_released_at_the_end_and_after_a_refusal(path):
    await opened(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE checkpoint SET value = ? WHERE name = 'schema_version'", [bytes(8)])
    db.close()
    await opened(path)  # incomplete checkpoint: moved aside
    await opened(path)


async def test_a_newer_schema_is_refused_and_left_alone(path):
    await opened(path)
    with sqlite3.connect(path) as db:
        newer = (99).to_bytes(8, "big")
        db.execute("UPDATE checkpoint SET value = ? WHERE name = 'schema_version'", [newer])
        db.execute("ALTER TABLE objects ADD COLUMN of_the_future")
    db.close()
    before = path.read_bytes()
    with pytest.raises(
        SchemaVersionError, match=r"schema 99 is newer than this release knows \(2\)"
    ):
        await opened(path)
    assert path.read_bytes() == before


async def test_the_database_of_another_program_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(ConfigError, match="is the database of another program"):
        await opened(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    db.close()


def scramble_header(content):
    content[:100] = os.urandom(100)


def zero_a_page(content):
    content[4096:8192] = bytes(4096)


def cut_in_half(content):
    del content[len(content) // 2 // 4096 * 4096 :]


@pytest.mark.parametrize("damage", [scramble_header, zero_a_page, cut_in_half])
async def test_a_damaged_file_is_moved_aside_and_a_fresh_database_is_made(path, caplog, damage):
    async with MetaStore(path) as store:
        await store.commit(Commit([WEB]))
        identity = store.database_id
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        async with MetaStore(path) as store:
            assert len(store.index) == 0
            assert store.database_id == identity  # in a new epoch
            assert store.fork >> EPOCH_SHIFT == 1
            await store.commit(Commit([WEB]))
    [aside] = path.parent.glob("edge.db.damaged-*")
    assert aside.read_bytes() == content
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert str(aside) in record.getMessage()


async def opened(path):
    async with MetaStore(path):
        pass


@contextmanager
def read_only_directory():
    # Root may write anywhere, so root becomes somebody else, in a directory that they can reach.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield directory
        finally:
            if is_root:
                os.seteuid(0)
            directory.chmod(0o755)
