"""The `outbox` table: reports that cloudcore has not acknowledged yet."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from corekit.errors import StoreError
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
# What a row costs on the wire beside its body and the text of its key, rounded up.
_ROW_BYTES = 32


class OutboxRepository:
    """The table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, reports: Sequence[Report], version: int) -> None:
        """Store `reports` with `version` and the numbers after it; a state row replaces that of its key.

        Raises:  StoreError: an op that has no meaning upstream.
        """
        rows = []
        for number, report in enumerate(reports, version):
            if report.op is Op.FORGET:
                raise StoreError(f"{report.key}: FORGET is not for reports")
            key = dict(zip(ObjectKey._fields, report.key, strict=True))
            row = {"version": number, "lane": int(report.lane), "op": int(report.op), **key}
            rows.append({**row, "uid": report.uid, "body": report.body})
        if rows:
            self._connection.execute(_PUT, rows)

    def unsent(self, lane: Lane, after: int, limit: int, max_bytes: int) -> list[OutboxRow]:
        """Return rows of `lane` in order of version, those above `after`, at least one if there is one."""
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
                key = ObjectKey(row.kind, row.namespace, row.name)
                spent_bytes += len(row.body) + len(row.uid) + sum(map(len, key)) + _ROW_BYTES
                if found and spent_bytes > max_bytes:
                    break
                report = Report(key, row.uid, row.body, lane, Op(row.op))
                found.append(OutboxRow(report, row.version))
        return found

    def acknowledge(self, lane: Lane, rows: Sequence[tuple[ObjectKey, int]]) -> None:
        """Delete the rows that still have the version that was acknowledged; a newer one stays."""
        parameters = [
            {"v": version, "l": int(lane), "k": key.kind, "ns": key.namespace, "n": key.name}
            for key, version in rows
        ]
        if parameters:
            self._connection.execute(_ACKNOWLEDGE, parameters)
