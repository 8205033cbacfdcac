"""From a path to an open, checked database: directory, lock, pragmas, integrity, schema."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from corekit.errors import ConfigError
from edgecore.metamanager.checksums import DamagedRowError
from edgecore.metamanager.errors import (
    MIN_FREE_BYTES,
    SchemaVersionError,
    StoreCorruptError,
    translated,
)
from edgecore.metamanager.notes import CheckpointRepository, LocalRepository, numbers
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.metamanager.schema import (
    APPLICATION_ID,
    DATABASE_ID_BYTES,
    SCHEMA_VERSION,
    metadata,
)

logger = logging.getLogger(__name__)

# Of the check at start. A gateway's database (a few MiB) takes 50 ms; beyond this the node must boot, and every
# row is checked when it is read anyway.
CHECK_BUDGET_S = 3.0
_PROGRESS_STEPS = 10_000  # of SQLite's machine between two looks at the clock: about a millisecond
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


def open_database(path: Path) -> Connection:
    """Return a connection to the sound database at `path`, made if it is not there.

    Raises:  StoreCorruptError; SchemaVersionError; ConfigError: another program's database; StoreError.
    """
    os.close(_open_private(path))
    connection = connect(path)
    try:
        with connection.begin():
            _check_catalogue(connection, path)
            _check_content(connection, path)
            _check_checkpoint(connection, path)
    except (SQLAlchemyError, DamagedRowError) as exc:
        connection.close()
        raise translated(exc, path) from exc
    except BaseException:
        connection.close()
        raise
    sync_directory(path)
    return connection


def sync_directory(path: Path) -> None:
    """Make names in the directory of `path` durable."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_private(path: Path) -> int:
    # Before SQLite, for the mode: Secrets are in it. SQLite gives -wal and -shm the mode of the database.
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(str(path), "", f"cannot be opened: {exc.strerror}") from exc
    os.fchmod(descriptor, 0o600)
    return descriptor


def _check_catalogue(connection: Connection, path: Path) -> None:
    """Make the tables of a new database; demand that those of an old one are ours to the letter."""
    found = _catalogue(connection)
    if not found and connection.exec_driver_sql("PRAGMA application_id").scalar() == 0:
        _create(connection)
        return
    if found == _expected_catalogue():
        return
    ours = connection.exec_driver_sql("PRAGMA application_id").scalar() == APPLICATION_ID
    known = {name for _, name, _ in _expected_catalogue()}
    if not ours and not known & {name for _, name, _ in found}:
        raise ConfigError(str(path), "", "is the database of another program")
    _refuse_newer(connection, path)
    raise StoreCorruptError(path, "its tables are not ours, or of another release")


def _create(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    notes = CheckpointRepository(connection)
    notes.put("database_id", os.urandom(DATABASE_ID_BYTES))
    notes.put_numbers("schema_version", SCHEMA_VERSION)
    notes.put_numbers("counter", 0)


def _refuse_newer(connection: Connection, path: Path) -> None:
    # By hand: the checkpoint of another release may have other columns.
    wanted = "SELECT value FROM checkpoint WHERE name = 'schema_version'"
    with suppress(SQLAlchemyError):
        value = connection.exec_driver_sql(wanted).scalar()
        version = int.from_bytes(value, "big") if isinstance(value, bytes) else 0
        # A flipped bit is no release: releases are counted one by one.
        if SCHEMA_VERSION < version < SCHEMA_VERSION + 1000:
            raise SchemaVersionError(path, version, SCHEMA_VERSION)


def _check_content(connection: Connection, path: Path) -> None:
    """Check SQLite's trees and our rows, within the budget. Raises: StoreCorruptError, DamagedRowError."""
    deadline = time.monotonic() + CHECK_BUDGET_S
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _PROGRESS_STEPS)
    try:
        verdict = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        if verdict != "ok":
            raise StoreCorruptError(path, " ".join(str(verdict).split()))
        OutboxRepository(connection).verify()
        LocalRepository(connection).verify()
    except OperationalError as exc:
        if getattr(exc.orig, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
            raise
        logger.info("%s: too large to check at start; rows are checked as they are read", path)
    finally:
        driver.set_progress_handler(None, 0)


def _check_checkpoint(connection: Connection, path: Path) -> None:
    found = CheckpointRepository(connection).all()
    version = sum(numbers(found.get("schema_version", b"")))
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(path, version, SCHEMA_VERSION)
    if version < 1 or len(found.get("database_id", b"")) != DATABASE_ID_BYTES:
        raise StoreCorruptError(path, "its checkpoint is incomplete")


def _catalogue(connection: Connection) -> set[tuple[str, str, str]]:
    wanted = "SELECT type, name, sql FROM sqlite_master"
    return {(row[0], row[1], row[2]) for row in connection.exec_driver_sql(wanted)}


@functools.cache
def _expected_catalogue() -> set[tuple[str, str, str]]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        expected = _catalogue(connection)
    engine.dispose()
    return expected


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
