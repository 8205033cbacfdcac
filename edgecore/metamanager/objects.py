"""The `objects` table: what the cloud wants of this node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from corekit.errors import StoreError
from edgecore.metamanager.checksums import require_intact, row_checksum
from edgecore.metamanager.schema import objects
from edgecore.records import StoredObject
from synccore.index import RecordIndex, key_hash
from synccore.messages import Delta, ObjectKey, Op

_KEY = (objects.c.kind, objects.c.namespace, objects.c.name)
_REST = ("uid", "version", "body", "checksum")
_insert = insert(objects)
# An equal version is an equal record, so a redelivered delta changes nothing. RETURNING tells.
_UPSERT = _insert.on_conflict_do_update(
    index_elements=list(_KEY),
    set_={column: _insert.excluded[column] for column in _REST},
    where=objects.c.version != _insert.excluded.version,
).returning(objects.c.version)

# A key, and its version now; None: it is gone.
Change = tuple[ObjectKey, int | None]


class ObjectRepository:
    """The table on the caller's connection. The caller commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def apply(self, delta: Delta) -> list[Change]:
        """Store one delta; return what it changed, which is nothing if it was stored before.

        Raises:  StoreError: an op that has no meaning downstream.
        """
        if delta.op is Op.UPSERT:
            return self._upsert(delta)
        if delta.op is Op.TOMBSTONE:
            key = dict(zip(ObjectKey._fields, delta.key, strict=True))
            return self._delete(*(objects.c[column] == part for column, part in key.items()))
        if delta.op is Op.FORGET:
            return self._delete(objects.c.key_hash == delta.version)
        raise StoreError(f"{delta.key}: {delta.op.name} is not for stored objects")

    def get(self, key: ObjectKey) -> StoredObject | None:
        """Return the stored object, or None. Raises: DamagedRowError."""
        same = [column == part for column, part in zip(_KEY, key, strict=True)]
        row = self._connection.execute(select(objects).where(*same)).first()
        return _intact(row) if row else None

    def of_kind(self, kind: str) -> list[StoredObject]:
        """Return all stored objects of `kind`, sorted by key. Raises: DamagedRowError."""
        wanted = select(objects).where(objects.c.kind == kind).order_by(*_KEY)
        return [_intact(row) for row in self._connection.execute(wanted)]

    def index(self) -> RecordIndex:
        """Return the index of everything stored, every row verified. Raises: DamagedRowError."""
        index = RecordIndex()
        for row in self._connection.execute(select(objects)):
            stored = _intact(row)
            index.put(stored.key, stored.version)
        return index

    def count(self) -> int:
        """Return how many objects are stored."""
        return int(self._connection.execute(select(func.count()).select_from(objects)).scalar_one())

    def _upsert(self, delta: Delta) -> list[Change]:
        stored = self._connection.execute(_UPSERT, object_row(delta)).first()
        return [(delta.key, delta.version)] if stored else []

    def _delete(self, *which: object) -> list[Change]:
        gone = self._connection.execute(delete(objects).where(*which).returning(*_KEY))  # type: ignore[arg-type]
        return [(ObjectKey(*row), None) for row in gone]


def object_row(delta: Delta) -> dict[str, object]:
    """Return the row that holds `delta`."""
    hashed = key_hash(delta.key)
    return {
        **dict(zip(ObjectKey._fields, delta.key, strict=True)),
        "key_hash": hashed,
        "uid": delta.uid,
        "version": delta.version,
        "body": delta.body,
        "checksum": row_checksum(*delta.key, hashed, delta.uid, delta.version, body=delta.body),
    }


def _intact(row: Sequence[Any]) -> StoredObject:
    kind, namespace, name, hashed, uid, version, body, checksum = row
    require_intact("objects", checksum, kind, namespace, name, hashed, uid, version, body=body)
    return StoredObject(ObjectKey(kind, namespace, name), uid, version, body)
