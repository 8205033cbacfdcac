"""The small tables: components' own notes (`local`) and what the store notes of itself (`checkpoint`)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from edgecore.metamanager.checksums import require_intact, row_checksum
from edgecore.metamanager.schema import checkpoint, local

_PUT_LOCAL = insert(local).prefix_with("OR REPLACE")
_PUT_CHECKPOINT = insert(checkpoint).prefix_with("OR REPLACE")


class LocalRepository:
    """The `local` table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, notes: Mapping[tuple[str, str], bytes | None]) -> None:
        """Store each (owner, key); None deletes it."""
        for (owner, key), value in notes.items():
            if value is None:
                gone = delete(local).where(local.c.owner == owner, local.c.key == key)
                self._connection.execute(gone)
            else:
                checksum = row_checksum(owner, key, body=value)
                row = {"owner": owner, "key": key, "value": value, "checksum": checksum}
                self._connection.execute(_PUT_LOCAL, row)

    def owned_by(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored. Raises: DamagedRowError."""
        rows = self._connection.execute(select(local).where(local.c.owner == owner))
        return {row.key: _intact("local", row, row.owner, row.key) for row in rows}

    def verify(self) -> None:
        """Raise DamagedRowError unless every row is what was written."""
        for row in self._connection.execute(select(local)):
            _intact("local", row, row.owner, row.key)


class CheckpointRepository:
    """The `checkpoint` table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, name: str, value: bytes) -> None:
        """Store one value."""
        row = {"name": name, "value": value, "checksum": row_checksum(name, body=value)}
        self._connection.execute(_PUT_CHECKPOINT, row)

    def put_numbers(self, name: str, *values: int) -> None:
        """Store numbers under one name."""
        self.put(name, b"".join(value.to_bytes(8, "big") for value in values))

    def all(self) -> dict[str, bytes]:
        """Return every value by its name. Raises: DamagedRowError."""
        rows = self._connection.execute(select(checkpoint))
        return {row.name: _intact("checkpoint", row, row.name) for row in rows}


def numbers(value: bytes) -> list[int]:
    """Return what `put_numbers` stored."""
    return [int.from_bytes(value[at : at + 8], "big") for at in range(0, len(value), 8)]


def _intact(table: str, row: object, *key: str) -> bytes:
    value: bytes = row.value  # type: ignore[attr-defined]
    require_intact(table, row.checksum, *key, body=value)  # type: ignore[attr-defined]
    return value
