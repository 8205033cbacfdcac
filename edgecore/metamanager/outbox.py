"""The `outbox` table: reports that cloudcore has not acknowledged yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from corekit.errors import StoreError
from edgecore.metamanager.checksums import require_intact, row_checksum
from edgecore.metamanager.schema import outbox
from edgecore.records import OutboxRow, Report
from synccore.messages import Lane, ObjectKey, Op

# Replaces what the partial unique index forbids twice: the older state row of the same key.
_PUT = insert(outbox).prefix_with("OR REPLACE")
_ACKNOWLEDGE = delete(outbox).where(
    outbox.c.version == bindparam("v"),
    outbox.c.lane == bindparam("l"),
    outbox.c.kind == bindparam("k"),
    outbox.c.namespace == bindparam("ns"),
    outbox.c.name == bindparam("n"),
)
_IS_LOG = outbox.c.op == int(Op.APPEND)
# What a row costs on the wire and in the file beside its body and the text of its key, rounded up.
_ROW_BYTES = 64


class Held(NamedTuple):
    """How much waits in a lane."""

    rows: int
    size_bytes: int

    def plus(self, other: Held) -> Held:
        """Return the sum."""
        return Held(self.rows + other.rows, self.size_bytes + other.size_bytes)

    def minus(self, other: Held) -> Held:
        """Return the difference."""
        return Held(self.rows - other.rows, self.size_bytes - other.size_bytes)


NOTHING = Held(0, 0)


class LogRow(NamedTuple):
    """A log row, without its body."""

    version: int
    key: ObjectKey
    size_bytes: int
    stored_ms: int


class OutboxRepository:
    """The table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, reports: Sequence[Report], version: int, stored_ms: int) -> None:
        """Store `reports` with `version` and the numbers after it; a state row replaces that of its key.

        Raises:  StoreError: an op that has no meaning upstream.
        """
        rows = [
            outbox_row(report, number, stored_ms) for number, report in enumerate(reports, version)
        ]
        if rows:
            self._connection.execute(_PUT, rows)

    def unsent(self, lane: Lane, after: int, limit: int, max_bytes: int) -> list[OutboxRow]:
        """Return rows of `lane` in order of version, those above `after`, at least one if there is one.

        Raises:  DamagedRowError.
        """
        found: list[OutboxRow] = []
        spent_bytes = 0
        result = self._connection.execute(
            select(outbox)
            .where(outbox.c.lane == int(lane), outbox.c.version > after)
            .order_by(outbox.c.version)
            .limit(limit)
        )
        with result:
            for row in result:
                checked = intact(row)
                spent_bytes += row.size_bytes
                if found and spent_bytes > max_bytes:
                    break
                found.append(checked)
        return found

    def acknowledge(self, lane: Lane, rows: Sequence[tuple[ObjectKey, int]]) -> Held:
        """Delete the rows that still have the version that was acknowledged; return what log rows held of it."""
        if not rows:
            return NOTHING
        versions = [version for _, version in rows]
        before = self._log_held(outbox.c.version.in_(versions))
        self._connection.execute(
            _ACKNOWLEDGE,
            [
                {"v": version, "l": int(lane), "k": key.kind, "ns": key.namespace, "n": key.name}
                for key, version in rows
            ],
        )
        if before == NOTHING:
            return NOTHING
        return before.minus(self._log_held(outbox.c.version.in_(versions)))

    def log_rows(self, lane: Lane) -> list[LogRow]:
        """Return the log rows of `lane`, oldest first, without bodies."""
        columns = (outbox.c.kind, outbox.c.namespace, outbox.c.name)
        rows = self._connection.execute(
            select(outbox.c.version, *columns, outbox.c.size_bytes, outbox.c.stored_ms)
            .where(outbox.c.lane == int(lane), _IS_LOG)
            .order_by(outbox.c.version)
        )
        return [LogRow(row[0], ObjectKey(*row[1:4]), row[4], row[5]) for row in rows]

    def log_held(self, lane: Lane) -> Held:
        """Return how much the log rows of `lane` hold."""
        return self._log_held(outbox.c.lane == int(lane))

    def state_held(self, lane: Lane) -> Held:
        """Return how much the state rows of `lane` hold: at most one a key."""
        return self._held(outbox.c.lane == int(lane), outbox.c.op != int(Op.APPEND))

    def oldest_ms(self, lane: Lane) -> int | None:
        """Return when the oldest row of `lane` was stored, or None if there is none."""
        wanted = select(outbox.c.stored_ms).where(outbox.c.lane == int(lane))
        return self._connection.execute(wanted.order_by(outbox.c.version).limit(1)).scalar()

    def drop(self, versions: Sequence[int]) -> None:
        """Delete rows by version."""
        gone = delete(outbox).where(outbox.c.version == bindparam("v"))
        if versions:
            self._connection.execute(gone, [{"v": version} for version in versions])

    def drop_states(self) -> int:
        """Delete every state row; return how many."""
        return self._connection.execute(
            delete(outbox).where(outbox.c.op != int(Op.APPEND))
        ).rowcount

    def of_kind(self, kind: str) -> list[OutboxRow]:
        """Return the state rows of one kind. Raises: DamagedRowError."""
        wanted = select(outbox).where(outbox.c.kind == kind, outbox.c.op != int(Op.APPEND))
        return [intact(row) for row in self._connection.execute(wanted)]

    def verify(self) -> None:
        """Raise DamagedRowError unless every row is what was written."""
        for row in self._connection.execute(select(outbox)):
            intact(row)

    def _log_held(self, *which: Any) -> Held:
        return self._held(*which, _IS_LOG)

    def _held(self, *which: Any) -> Held:
        size_bytes = func.coalesce(func.sum(outbox.c.size_bytes), 0)
        row = self._connection.execute(select(func.count(), size_bytes).where(*which)).one()
        return Held(*row)


def size_of(report: Report) -> int:
    """Return what `report` counts for in the bound of its lane."""
    return len(report.body) + len(report.uid) + sum(map(len, report.key)) + _ROW_BYTES


def outbox_row(report: Report, version: int, stored_ms: int) -> dict[str, object]:
    """Return the row that holds `report`. Raises: StoreError: an op that has no meaning upstream."""
    if report.op is Op.FORGET:
        raise StoreError(f"{report.key}: FORGET is not for reports")
    lane, op, size = int(report.lane), int(report.op), size_of(report)
    fields = (version, lane, op, *report.key, report.uid, size, stored_ms)
    return {
        "version": version,
        "lane": lane,
        "op": op,
        **dict(zip(ObjectKey._fields, report.key, strict=True)),
        "uid": report.uid,
        "body": report.body,
        "size_bytes": size,
        "stored_ms": stored_ms,
        "checksum": row_checksum(*fields, body=report.body),
    }


def intact(row: Sequence[Any]) -> OutboxRow:
    """Return a row as it was stored. Raises: DamagedRowError."""
    version, lane, op, kind, namespace, name, uid, body, size, stored_ms, checksum = row
    fields = (version, lane, op, kind, namespace, name, uid, size, stored_ms)
    require_intact("outbox", checksum, *fields, body=body)
    key = ObjectKey(kind, namespace, name)
    return OutboxRow(Report(key, uid, body, Lane(lane), Op(op)), version)
