"""The state file: one SQLite table of current objects and the revision. The only module that knows SQL.

Never read after start: the objects live in memory, and this is their log of record.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kubecore.storage.errors import StoreOpenError, StoreWriteError

SCHEMA_VERSION = 1
# A WAL that reaches its checkpoint is 16 MiB; with less room the first busy minute would fail.
MIN_FREE_BYTES = 32 << 20
# After an unclean end the last revisions handed out may not have reached the disk (a lying disk, a restored
# snapshot). Skipping ahead keeps revisions from ever running backwards, which would corrupt every informer.
UNCLEAN_SKIP = 1 << 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS obj (
    id INTEGER PRIMARY KEY, res TEXT NOT NULL, ns TEXT NOT NULL, name TEXT NOT NULL,
    rv INTEGER NOT NULL, val BLOB NOT NULL, UNIQUE (res, ns, name));
CREATE TABLE IF NOT EXISTS meta (k TEXT PRIMARY KEY, v INTEGER NOT NULL) WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO obj (res, ns, name, rv, val) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (res, ns, name) DO UPDATE SET rv = excluded.rv, val = excluded.val
"""
_DELETE = "DELETE FROM obj WHERE res = ? AND ns = ? AND name = ?"
_SET_META = "INSERT INTO meta (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"


class Row(NamedTuple):
    """One object as stored; `value` is None where the row is to be deleted."""

    storage: str
    namespace: str
    name: str
    revision: int
    value: bytes | None


class Database:
    """One connection, held exclusively: a second process on the same file is refused.

    Raises:  StoreOpenError: damaged, full, read-only, newer than this program, or in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._refuse_full_folder()
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=0.5
            )
        except (OSError, sqlite3.Error) as exc:
            raise StoreOpenError(str(path), f"cannot be opened: {exc}") from exc
        try:
            self.revision = self._start()
        except sqlite3.Error as exc:
            self._db.close()
            raise StoreOpenError(str(path), _explain(exc)) from exc
        except StoreOpenError:
            self._db.close()
            raise

    def rows(self) -> Iterator[Row]:
        """Yield every stored object."""
        yield from map(Row._make, self._db.execute("SELECT res, ns, name, rv, val FROM obj"))

    def write(self, rows: Sequence[Row]) -> None:
        """Make all of `rows` durable in one transaction, in order.

        Raises:  StoreWriteError: none of them is stored.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for row in rows:
                if row.value is None:
                    self._db.execute(_DELETE, row[:3])
                else:
                    self._db.execute(_UPSERT, row)
            self._db.execute(_SET_META, ("revision", rows[-1].revision))
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreWriteError(f"{self._path}: {_explain(exc)}") from exc

    def close(self, revision: int) -> None:
        """Note a clean end at `revision` and close the file."""
        try:
            self._db.execute(_SET_META, ("revision", revision))
            self._db.execute(_SET_META, ("clean", 1))
        except sqlite3.Error:
            pass  # then the next start counts it as unclean, which is always safe
        finally:
            self._db.close()

    def _refuse_full_folder(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.touch(mode=0o600)
        free_bytes = shutil.disk_usage(self._path.parent).free
        if free_bytes < MIN_FREE_BYTES:
            raise StoreOpenError(
                str(self._path),
                f"its disk is full: {free_bytes >> 20} MiB free, {MIN_FREE_BYTES >> 20} MiB are needed",
            )

    def _start(self) -> int:
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            # FULL, not NORMAL: NORMAL may lose the last transactions on power failure, and group commit
            # makes FULL as fast.
            "synchronous = FULL",
            "wal_autocheckpoint = 2000",
            "cache_size = -2048",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        problems = [row[0] for row in self._db.execute("PRAGMA integrity_check(1)")]
        if problems != ["ok"]:
            raise StoreOpenError(str(self._path), f"is damaged: {' '.join(problems[0].split())}")
        self._refuse_newer_schema()
        self._db.executescript(_SCHEMA)
        meta = dict(self._db.execute("SELECT k, v FROM meta"))
        revision = int(meta.get("revision", 1))
        if meta.get("clean") == 0:
            revision += UNCLEAN_SKIP
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(_SET_META, ("revision", revision))
        self._db.execute(_SET_META, ("clean", 0))
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")
        return revision

    def _refuse_newer_schema(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreOpenError(
                str(self._path),
                f"was written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})",
            )


def _explain(exc: sqlite3.Error) -> str:
    match getattr(exc, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "is in use by another process"
        case sqlite3.SQLITE_FULL:
            return "its disk is full"
        case sqlite3.SQLITE_READONLY:
            return "is read-only"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return f"is damaged: {exc}"
        case _:
            return f"cannot be used: {exc}"
