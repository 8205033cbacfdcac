"""The `objects` table: what the cloud wants of this node."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from corekit.errors import StoreError
from edgecore.metamanager.schema import objects
from edgecore.records import StoredObject
from synccore.index import RecordIndex, key_hash
from synccore.messages import Delta, ObjectKey, Op

_KEY = (objects.c.kind, objects.c.namespace, objects.c.name)
_REST = ("uid", "version", "body")
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
        """Return the stored object, or None."""
        columns = (objects.c.uid, objects.c.version, objects.c.body)
        same = [column == part for column, part in zip(_KEY, key, strict=True)]
        row = self._connection.execute(select(*columns).where(*same)).first()
        return StoredObject(key, *row) if row else None

    def of_kind(self, kind: str) -> list[StoredObject]:
        """Return all stored objects of `kind`, sorted by key."""
        rows = self._connection.execute(
            select(*_KEY, objects.c.uid, objects.c.version, objects.c.body)
            .where(objects.c.kind == kind)
            .order_by(*_KEY)
        )
        return [StoredObject(ObjectKey(*row[:3]), *row[3:]) for row in rows]

    def index(self) -> RecordIndex:
        """Return the index of everything stored."""
        index = RecordIndex()
        for kind, namespace, name, version in self._connection.execute(
            select(*_KEY, objects.c.version)
        ):
            index.put(ObjectKey(kind, namespace, name), version)
        return index

    def _upsert(self, delta: Delta) -> list[Change]:
        row = {
            **dict(zip(ObjectKey._fields, delta.key, strict=True)),
            "key_hash": key_hash(delta.key),
            "uid": delta.uid,
            "version": delta.version,
            "body": delta.body,
        }
        stored = self._connection.execute(_UPSERT, row).first()
        return [(delta.key, delta.version)] if stored else []

    def _delete(self, *which: object) -> list[Change]:
        gone = self._connection.execute(delete(objects).where(*which).returning(*_KEY))  # type: ignore[arg-type]
        return [(ObjectKey(*row), None) for row in gone]
