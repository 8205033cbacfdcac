"""From a path to an open, checked database: directory, lock, pragmas, integrity, schema, quarantine."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from corekit.errors import ConfigError
from edgecore.metamanager.errors import (
    MIN_FREE_BYTES,
    SchemaVersionError,
    StoreCorruptError,
    StoreFullError,
    translated,
)
from edgecore.metamanager.notes import CheckpointRepository
from edgecore.metamanager.schema import SCHEMA_VERSION, checkpoint, metadata

logger = logging.getLogger(__name__)

DATABASE_ID_BYTES = 16
_PRAGMAS = (
    "busy_timeout = 5000",  # only a person's sqlite3 shell can hold the lock; wait for it
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit that returned survives a power cut
    "cache_size = -1024",  # KiB a connection; two connections, and the kernel caches the file anyway
    "mmap_size = 0",  # an I/O error must be an error code, not SIGBUS
    "journal_size_limit = 4194304",  # what a burst left in the -wal file is given back
    "temp_store = MEMORY",
    "cell_size_check = ON",
    "trusted_schema = OFF",
)


def prepare_directory(path: Path) -> None:
    """Raise ConfigError, naming the directory, unless a database at `path` can be written."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        with probe.open("wb") as file:
            file.write(bytes(MIN_FREE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        problem = f"directory of {path.name} cannot be written: {exc.strerror}"
        raise ConfigError(str(path.parent), "", problem) from exc
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def take_lock(path: Path) -> int:
    """Return a descriptor that holds the lock of the database at `path` until it is closed.

    Raises:  ConfigError: another process has it. The file stays; removing it would let two have the lock.
    """
    descriptor = _open_private(path.with_name(f"{path.name}.lock"))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(str(path), "", f"in use by another process (pid {holder})") from exc
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return descriptor


def connect(path: Path) -> Connection:
    """Return a connection to the existing file; each of its transactions takes the write lock at once.

    Raises:  StoreError.
    """
    engine = create_engine("sqlite://", creator=lambda: _connect(path), poolclass=NullPool)
    event.listen(engine, "begin", _begin_immediate)
    return _opened(engine, path)


def connect_readonly(path: Path) -> Connection:
    """Return a connection that only reads; each statement sees the newest commit. Raises: StoreError."""
    engine = create_engine(
        "sqlite://", creator=lambda: _connect(path, "query_only = ON"), poolclass=NullPool
    )
    return _opened(engine, path)


def open_checked(path: Path) -> Connection:
    """Return a connection to the database at `path`, made if it is not there, moved aside if damaged.

    Raises:  SchemaVersionError; ConfigError: another program's database; StoreError.
    """
    try:
        return _open(path)
    except StoreCorruptError as exc:
        aside = quarantine(path)
        logger.warning("%s; moved aside to %s, starting with an empty one", exc, aside)
        return _open(path)
    except StoreFullError as exc:
        raise ConfigError(str(path.parent), "", "no space left on the disk") from exc


def quarantine(path: Path) -> Path:
    """Rename the database with its -wal and -shm files; return the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    count = 1
    while aside.exists():  # twice within a second
        aside, count = path.with_name(f"{path.name}.damaged-{stamp}.{count}"), count + 1
    for suffix in (
        "-wal",
        "-shm",
        "",
    ):  # the database last: a crash in between must not lose the name
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _sync_directory(path)
    return aside


def _open(path: Path) -> Connection:
    os.close(_open_private(path))
    connection = connect(path)
    try:
        with connection.begin():
            _check_integrity(connection, path)
            _check_schema(connection, path)
    except SQLAlchemyError as exc:
        connection.close()
        raise translated(exc, path) from exc
    except Exception:
        connection.close()
        raise
    _sync_directory(path)
    return connection


def _open_private(path: Path) -> int:
    # Before SQLite, for the mode: Secrets are in it. SQLite gives -wal and -shm the mode of the database.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(str(path), "", f"cannot be opened: {exc.strerror}") from exc
    os.fchmod(descriptor, 0o600)
    return descriptor


def _check_integrity(connection: Connection, path: Path) -> None:
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise StoreCorruptError(path, " ".join(str(verdict).split()))


def _check_schema(connection: Connection, path: Path) -> None:
    tables = inspect(connection).get_table_names()
    if tables and checkpoint.name not in tables:
        raise ConfigError(str(path), "", "is the database of another program")
    notes = CheckpointRepository(connection)
    if not tables:
        metadata.create_all(connection, checkfirst=False)
        notes.put("database_id", os.urandom(DATABASE_ID_BYTES))
        notes.put_number("schema_version", SCHEMA_VERSION)
        notes.put_number("counter", 0)
    found = notes.all()
    version = int.from_bytes(found.get("schema_version", b""), "big")
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(path, version, SCHEMA_VERSION)
    if version < 1 or len(found.get("database_id", b"")) != DATABASE_ID_BYTES:
        raise StoreCorruptError(path, "its checkpoint is incomplete")


def _connect(path: Path, *pragmas: str) -> sqlite3.Connection:
    # isolation_level None: we begin transactions ourselves, the driver would begin them too late.
    # One thread uses it at a time, but opening and closing may happen on another one.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (*_PRAGMAS, *pragmas):
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()
        raise
    return connection


def _opened(engine: Engine, path: Path) -> Connection:
    try:
        return engine.connect()
    except SQLAlchemyError as exc:
        raise translated(exc, path) from exc


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
