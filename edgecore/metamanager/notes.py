"""The small tables: components' own notes (`local`) and what the store notes of itself (`checkpoint`)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from edgecore.metamanager.schema import checkpoint, local


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
                row = {"owner": owner, "key": key, "value": value}
                self._connection.execute(insert(local).prefix_with("OR REPLACE"), row)

    def owned_by(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored."""
        rows = self._connection.execute(
            select(local.c.key, local.c.value).where(local.c.owner == owner)
        )
        return {row.key: row.value for row in rows}


class CheckpointRepository:
    """The `checkpoint` table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, name: str, value: bytes) -> None:
        """Store one value."""
        row = {"name": name, "value": value}
        self._connection.execute(insert(checkpoint).prefix_with("OR REPLACE"), row)

    def put_number(self, name: str, value: int) -> None:
        """Store one number."""
        self.put(name, value.to_bytes(8, "big"))

    def all(self) -> dict[str, bytes]:
        """Return every value by its name."""
        rows = self._connection.execute(select(checkpoint.c.name, checkpoint.c.value))
        return {row.name: row.value for row in rows}
