"""What can still be read of a damaged database: every row whose checksum holds, from both ends of each table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table

from edgecore.metamanager.checksums import is_intact
from edgecore.metamanager.notes import numbers
from edgecore.metamanager.schema import (
    DATABASE_ID_BYTES,
    Unsigned64,
    checkpoint,
    local,
    objects,
    outbox,
)
from synccore.messages import Lane, Op

# The pods' own memory says "this pod was here"; beside a list of pods with holes it would end pods that still must run.
_NEEDS_ALL_OBJECTS = "edged"
_BATCH_ROWS = 256
Found = tuple[Any, ...]


@dataclass(slots=True)
class Salvage:
    """What was saved. `checkpoint`: its values by name."""

    counts: dict[str, int] = field(default_factory=dict)
    log_counts: list[int] = field(default_factory=lambda: [0] * len(Lane))
    checkpoint: dict[str, bytes] = field(default_factory=dict)

    @property
    def database_id(self) -> bytes | None:
        """The identity, if it could be read."""
        found = self.checkpoint.get("database_id", b"")
        return found if len(found) == DATABASE_ID_BYTES else None

    @property
    def counter(self) -> int:
        """The last version used, or 0."""
        return sum(numbers(self.checkpoint.get("counter", b""))[:1])

    @property
    def serial(self) -> int:
        """The number of the last transaction, or 0."""
        return sum(numbers(self.checkpoint.get("clock", b""))[:1])


def salvage(aside: Path, target: Connection, *, object_count: int | None) -> Salvage:
    """Copy what is intact in the file `aside` into the fresh database behind `target`, whose transaction is open.

    Shapes:  object_count: how many objects there must be, None if unknown: with fewer, the notes that need all
             objects stay behind.
    """
    saved = Salvage()
    with suppress(sqlite3.Error):
        source = sqlite3.connect(f"file:{aside}?mode=ro", uri=True)
        try:
            # A damaged text becomes another text, which its checksum refuses.
            source.text_factory = lambda raw: raw.decode(errors="replace")
            for row in _intact_rows(source, checkpoint, ()):
                saved.checkpoint[row[0]] = row[1]
            saved.counts["objects"] = _copy(source, target, objects, ())
            complete = object_count is not None and saved.counts["objects"] >= object_count
            without = () if complete else (_NEEDS_ALL_OBJECTS,)
            saved.counts["local"] = _copy(source, target, local, without)
            saved.counts["outbox"] = _copy(source, target, outbox, (), saved.log_counts)
        finally:
            source.close()
    return saved


def _copy(
    source: sqlite3.Connection,
    target: Connection,
    table: Table,
    without: tuple[str, ...],
    log_counts: list[int] | None = None,
) -> int:
    names, count = [column.name for column in table.columns], 0
    batch: list[Found] = []
    for row in _intact_rows(source, table, without):
        batch.append(row)
        count += 1
        if log_counts is not None and row[2] == Op.APPEND:
            log_counts[row[1]] += 1
        if len(batch) == _BATCH_ROWS:
            _insert(target, table, names, batch)
            batch = []
    _insert(target, table, names, batch)
    return count


def _insert(target: Connection, table: Table, names: list[str], rows: list[Found]) -> None:
    # The driver's own numbers go back as they came; OR IGNORE: a damaged tree may show one row twice.
    if rows:
        marks = ", ".join("?" * len(names))
        text = f"INSERT OR IGNORE INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - our own names
        target.exec_driver_sql(text, rows)


def _intact_rows(
    source: sqlite3.Connection, table: Table, without: tuple[str, ...]
) -> Iterator[Found]:
    """Yield each intact row once: forwards until something is broken, then backwards until it is again."""
    names = ", ".join(column.name for column in table.columns)
    seen: set[int] = set()
    for order in ("ASC", "DESC"):
        with suppress(sqlite3.Error):
            text = f"SELECT rowid, {names} FROM {table.name} NOT INDEXED ORDER BY rowid {order}"  # noqa: S608
            for rowid, *row in source.execute(text):
                if rowid in seen:
                    return  # the way back has met the way forth
                seen.add(rowid)
                if _row_is_intact(table, row) and row[0] not in without:
                    yield tuple(row)
            return


def _row_is_intact(table: Table, row: list[Any]) -> bool:
    named: Mapping[str, Any] = dict(zip((c.name for c in table.columns), row, strict=True))
    checksum = named["checksum"]
    large = "value" if "value" in named else "body"
    fields = []
    for column in table.columns:
        if column.name not in ("checksum", large):
            value = named[column.name]
            if isinstance(column.type, Unsigned64) and isinstance(value, int):
                value %= 1 << 64
            fields.append(value)
    return is_intact(checksum, *fields, body=named[large])
