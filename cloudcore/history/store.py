"""The file of kept values: one SQLite database, used by one thread. The only module of cloudcore that knows SQL.

Values come in many series at once and are read of one. What came is journalled as it came, one row for all of it, and
held in memory by series; every minute, or when much is held, each series' part becomes a stretch of its own, and the
journal is emptied. So a value costs a few bytes and no row, and a start reads back what was not a stretch yet.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import merge
from pathlib import Path
from typing import NamedTuple

from cloudcore.history.columns import (
    Column,
    pack_column,
    pack_journal,
    unpack_column,
    unpack_journal,
)
from cloudcore.history.errors import HistoryDamagedError, HistoryFullError
from synccore.errors import FrameError
from synccore.series import Series

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# Values held in memory, about 40 bytes each: then they become stretches.
MAX_HELD = 131_072
# While nothing can be written; beyond it the held ones are given up.
MAX_UNWRITTEN = 4 * MAX_HELD
# For a process of ours that ends just now.
LOCK_WAIT_S = 5.0
# Stretches read at a time: other calls, and writes, take their turn between.
PAGE = 16
# A device whose clock is wrong: nothing that is dated later is kept, it would never grow old.
MAX_AHEAD_MS = 86_400_000
# When the file is full, so much of it is freed at once.
_FREED_SHARE = 0.1
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_BEGINNING, _END = -(1 << 63), (1 << 63) - 1  # of time, as the columns have it
_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, property TEXT NOT NULL, uid TEXT NOT NULL,
    UNIQUE (device, property));
CREATE TABLE IF NOT EXISTS stretch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, series INTEGER NOT NULL, first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, count INTEGER NOT NULL, size INTEGER NOT NULL, content BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS stretch_by_time ON stretch (series, first_ms, id, last_ms, count, size);
CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, content BLOB NOT NULL);
"""


class Keep(NamedTuple):
    """What is to be kept of a series: of which device's life, and not what is older."""

    uid: str
    least_ms: float


class Cursor(NamedTuple):
    """Where a reading goes on.

    Shapes:  after: first_ms and id of the last stretch read; last_id: later ones are not its business;
             carry: read and not told yet.
    """

    number: int
    since_ms: int
    until_ms: int
    last_id: int
    after: tuple[int, int]
    carry: Column


class _Known(NamedTuple):
    """A series. Shapes: number: in the file; 0: it is not there yet."""

    number: int
    uid: str


class ValueFile:
    """An open file, or a database in memory. Every call blocks.

    Shapes:  path: None: in memory, gone when closed. max_bytes: of what is stored; the file may be a WAL larger.
    Raises:  from every call: HistoryDamagedError; HistoryFullError: it cannot be written now.
    """

    def __init__(self, path: Path | None, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._held: dict[Series, Column] = {}
        self._known: dict[Series, _Known] = {}
        self._held_count = 0
        self._journalled = True  # whether all that is held is
        # Values that are not kept after all: of a future that is none, or while the disk was full.
        self.given_up_count = 0
        with _translated():
            self._db = sqlite3.connect(
                path or ":memory:",
                isolation_level=None,
                check_same_thread=False,
                timeout=LOCK_WAIT_S,
            )
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        with _translated():
            pages = self._pragma("page_count") - self._pragma("freelist_count")
            return pages * self._pragma("page_size")

    @property
    def series(self) -> list[Series]:
        """The series there may be values of."""
        return list(self._known)

    @property
    def held_count(self) -> int:
        """Values in memory, in the journal too unless the disk is full."""
        return self._held_count

    def add(self, columns: Sequence[tuple[Series, str, Column]], now_ms: float) -> None:
        """Make values durable. Shapes: columns: series, uid of its device, values.

        Raises:  HistoryFullError: they are held in memory, and written with the next that can be.
        """
        self._forget(
            [
                series
                for series, uid, _ in columns
                if series in self._known and self._known[series].uid != uid
            ]
        )
        for series, uid, column in columns:
            self._known.setdefault(series, _Known(0, uid))
            self._hold(series, column)
        if self._held_count >= MAX_HELD or not self._journalled:
            self.seal(now_ms)
            return
        self._journalled = False
        self._journal([(series, column) for series, _, column in columns])

    def seal(self, now_ms: float) -> None:
        """Make a stretch of what is held of each series, and empty the journal."""
        ahead_count = 0
        try:
            with self._transaction():
                for series, held in self._held.items():
                    column = held.ordered().between(_BEGINNING, now_ms + MAX_AHEAD_MS)
                    ahead_count += len(held) - len(column)
                    self._store(self._number(series), column)
                self._db.execute("DELETE FROM journal")
        except HistoryFullError:
            if self._held_count > MAX_UNWRITTEN:
                self.given_up_count += self._held_count
                self._held, self._held_count = {}, 0
            raise
        self.given_up_count += ahead_count
        self._held, self._held_count, self._journalled = {}, 0, True

    def tidy(self, asked: Iterable[Series], keeps: Mapping[Series, Keep]) -> None:
        """Of the series that were asked about drop those without a `Keep`, or of another life, and what is too old."""
        own = [(series, self._known[series]) for series in asked if series in self._known]
        self._forget([s for s, known in own if s not in keeps or keeps[s].uid != known.uid])
        horizons = [
            (known.number, keeps[series].least_ms, keeps[series].least_ms)
            for series, known in own
            if series in self._known
        ]
        with self._transaction():
            self._db.executemany(
                "DELETE FROM stretch WHERE series = ? AND first_ms < ? AND last_ms < ?", horizons
            )

    def make_room(self) -> int:
        """Bring the file below its limit; return how many values went: the oldest of who has the most."""
        excess_bytes = self.used_bytes - self._max_bytes
        if excess_bytes <= 0:
            return 0
        excess_bytes += int(self._max_bytes * _FREED_SHARE)
        given_up_count = 0
        with self._transaction():
            sizes = dict(self._db.execute("SELECT series, SUM(size) FROM stretch GROUP BY series"))
            while excess_bytes > 0 and sizes:
                largest = max(sizes, key=lambda number: sizes[number])
                freed_bytes, count = self._drop_oldest(largest, excess_bytes)
                given_up_count += count
                excess_bytes -= freed_bytes
                sizes[largest] -= freed_bytes
                if not freed_bytes or sizes[largest] <= 0:
                    del sizes[largest]
        return given_up_count

    def begin(
        self, series: Series, uid: str, *, since_ms: int, until_ms: int, newest_count: int
    ) -> Cursor | None:
        """Return where to read a series from; None: nothing is kept of this device's life.

        Shapes:  newest_count: what is newer than so many values back is enough; 0: all.
        """
        known = self._known.get(series)
        if known is None or known.uid != uid:
            return None
        held = self._held.get(series, Column()).ordered().between(since_ms, until_ms)
        with _translated():
            last_id = self._db.execute("SELECT MAX(id) FROM stretch").fetchone()[0] or 0
            if newest_count:
                least_ms = self._newest_since(known.number, until_ms, held, newest_count)
                since_ms = max(since_ms, least_ms)
        return Cursor(known.number, since_ms, until_ms, last_id, (_BEGINNING, 0), held)

    def page(self, cursor: Cursor) -> tuple[Column, Cursor | None]:
        """Return the next values in order of time, and where to go on; None: that was all."""
        with _translated():
            found = self._db.execute(
                "SELECT id, first_ms, content FROM stretch WHERE series = ? AND (first_ms, id) > (?, ?) "
                "AND first_ms <= ? AND last_ms >= ? AND id <= ? ORDER BY first_ms, id LIMIT ?",
                (
                    cursor.number, *cursor.after, cursor.until_ms, cursor.since_ms, cursor.last_id,
                    PAGE + 1,
                ),
            ).fetchall()  # fmt: skip
        whole = cursor.carry.copy()
        for number, _, content in found[:PAGE]:
            whole.extend(self._unpack(number, content).between(cursor.since_ms, cursor.until_ms))
        whole = whole.ordered()
        if len(found) <= PAGE:
            return whole, None
        # Stretches overlap where values came late: what the next one may come before waits for it.
        told = whole.between(_BEGINNING, found[PAGE][1] - 1)
        rest = Column(whole.times[len(told) :], whole.values[len(told) :])
        number, first_ms, _ = found[PAGE - 1]
        return told, cursor._replace(after=(first_ms, number), carry=rest)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _open(self) -> None:
        for pragma in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            "synchronous = FULL",  # one commit a second: it costs nothing
            "wal_autocheckpoint = 2000",
            "journal_size_limit = 16777216",
            "cache_size = -2048",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        if self._pragma("user_version") > SCHEMA_VERSION:
            raise HistoryDamagedError("it was written by a later version")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        rows = self._db.execute("SELECT device, property, id, uid FROM series")
        self._known = {
            Series(device, prop): _Known(number, uid) for device, prop, number, uid in rows
        }
        for number, content in self._db.execute("SELECT id, content FROM journal ORDER BY id"):
            try:
                columns = unpack_journal(content)
            except FrameError as exc:
                logger.warning(
                    "%s: journal row %d is damaged, dropped: %s", self._path, number, exc
                )
                continue
            for series, column in columns.items():
                if series in self._known:
                    self._hold(series, column)

    def _hold(self, series: Series, column: Column) -> None:
        held = self._held.get(series)
        if held is None:
            self._held[series] = column.copy()
        else:
            held.extend(column)
        self._held_count += len(column)

    def _number(self, series: Series) -> int:
        """Return the number of a series, a new one if it has none."""
        number, uid = self._known[series]
        if not number:
            number = (
                self._db.execute(
                    "INSERT INTO series (device, property, uid) VALUES (?, ?, ?)", (*series, uid)
                ).lastrowid
                or 0
            )
            self._known[series] = _Known(number, uid)
            self._numbered.append(series)
        return number

    def _journal(self, columns: Sequence[tuple[Series, Column]]) -> None:
        with self._transaction():
            for series, _ in columns:
                self._number(series)
            for content in pack_journal(columns):
                self._db.execute("INSERT INTO journal (content) VALUES (?)", (content,))
        self._journalled = True

    def _store(self, number: int, column: Column) -> None:
        for part in column.stretches():
            content = pack_column(part)
            self._db.execute(
                "INSERT INTO stretch (series, first_ms, last_ms, count, size, content) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (number, part.times[0], part.times[-1], len(part), len(content), content),
            )

    def _forget(self, gone: Sequence[Series]) -> None:
        """Drop series with all that is kept of them."""
        if not gone:
            return
        for series in gone:
            self._held_count -= len(self._held.pop(series, ()))
        with self._transaction():
            numbers = [(self._known[series].number,) for series in gone]
            self._db.executemany("DELETE FROM stretch WHERE series = ?", numbers)
            self._db.executemany("DELETE FROM series WHERE id = ?", numbers)
            self._db.execute(
                "DELETE FROM journal"
            )  # it is of many series: what is held is written again
            for series in self._held:
                self._number(series)
            for content in pack_journal(self._held.items()):
                self._db.execute("INSERT INTO journal (content) VALUES (?)", (content,))
        self._journalled = True
        for series in gone:
            self._known.pop(series, None)

    def _drop_oldest(self, number: int, wanted_bytes: float) -> tuple[int, int]:
        """Drop some stretches of a series; return the bytes and values that went."""
        found = self._db.execute(
            "SELECT id, size, count FROM stretch WHERE series = ? ORDER BY first_ms LIMIT 64",
            (number,),
        ).fetchall()
        freed_bytes = given_up_count = 0
        for stretch, size_bytes, count in found:
            if freed_bytes >= wanted_bytes:
                break
            self._db.execute("DELETE FROM stretch WHERE id = ?", (stretch,))
            freed_bytes += size_bytes
            given_up_count += count
        return freed_bytes, given_up_count

    def _newest_since(self, number: int, until_ms: int, held: Column, count: int) -> int:
        """Return a time since which there are `count` values, if there are so many."""
        stored = self._db.execute(
            "SELECT last_ms, first_ms, count FROM stretch WHERE series = ? AND first_ms <= ? "
            "ORDER BY last_ms DESC",
            (number, until_ms),
        )
        own = [(held.times[-1], held.times[0], len(held))] if len(held) else []
        least_ms = _END
        for last_ms, first_ms, found in merge(stored, own, reverse=True):
            if count <= 0:
                return least_ms
            least_ms = min(least_ms, first_ms)
            # Of one that goes on after the end nobody knows how much is before it.
            count -= found if last_ms <= until_ms else 0
        return least_ms if count <= 0 else _BEGINNING

    def _unpack(self, number: int, content: bytes) -> Column:
        """Return a stretch; one that is damaged goes, and is said."""
        try:
            return unpack_column(content)
        except FrameError as exc:
            logger.warning("%s: stretch %d is damaged, dropped: %s", self._path, number, exc)
            with self._transaction():
                self._db.execute("DELETE FROM stretch WHERE id = ?", (number,))
            return Column()

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._numbered: list[Series] = []
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                for series in self._numbered:
                    self._known[series] = _Known(0, self._known[series].uid)
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        # Extended codes have the kind in their lowest byte; an error of the binding has none.
        kind = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if kind in _DAMAGED or isinstance(exc, sqlite3.ProgrammingError | sqlite3.IntegrityError):
            raise HistoryDamagedError(str(exc)) from exc
        raise HistoryFullError(str(exc)) from exc
