"""Tables of the edge database. A row is private to this package; callers see keys, deltas and reports.

Every table has a `checksum` column (see `checksums`) over all other columns, verified at start and on read.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)
from sqlalchemy.types import UserDefinedType

from synccore.messages import Op

SCHEMA_VERSION = 2
# "ARMD": tells our database from another program's even when its catalogue is damaged.
APPLICATION_ID = 0x41524D44
DATABASE_ID_BYTES = 16
_TWO_TO_64 = 1 << 64


class Unsigned64(TypeDecorator[int]):
    """An unsigned 64-bit number in SQLite's signed integer, two's complement; order is not kept."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the signed number, or raise OverflowError for one that is not of 64 bits."""
        if value is None:
            return None
        if not 0 <= value < _TWO_TO_64:
            raise OverflowError(f"{value} is not an unsigned 64-bit number")
        return value - _TWO_TO_64 if value >> 63 else value

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return the unsigned number; what is not a number (damage) as it is, for the checksum to refuse."""
        return value + _TWO_TO_64 if isinstance(value, int) and value < 0 else value


class Blob(UserDefinedType[bytes]):
    """Bytes as SQLite has them. SQLAlchemy's own type makes a number (damage) into that many zero bytes."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Return the column's type."""
        return "BLOB"


metadata = MetaData()

# What the cloud wants of this node, as it last said. Lengths are Kubernetes' own; SQLite does not enforce them.
objects = Table(
    "objects",
    metadata,
    Column("kind", String(63), primary_key=True),
    Column("namespace", String(63), primary_key=True),  # "" if cluster-scoped
    Column("name", String(253), primary_key=True),
    Column("key_hash", Unsigned64, nullable=False, index=True),  # all that a FORGET carries
    Column("uid", String(36), nullable=False),
    Column("version", Unsigned64, nullable=False),
    Column("body", Blob, nullable=False),  # byte for byte as it came
    Column("checksum", Integer, nullable=False),
)

# What the cloud does not have yet. `version` is taken from the counter and is never used twice.
outbox = Table(
    "outbox",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("lane", Integer, nullable=False),
    Column("op", Integer, nullable=False),
    Column("kind", String(63), nullable=False),
    Column("namespace", String(63), nullable=False),
    Column("name", String(253), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("body", Blob, nullable=False),
    Column("size_bytes", Integer, nullable=False),  # what it counts for in the bound of its lane
    Column("stored_ms", Integer, nullable=False),  # by the database's own clock, see `clock`
    Column("checksum", Integer, nullable=False),
    Index("outbox_lane", "lane", "version"),
    # State rows: one per key, so a newer one replaces it. Log rows (APPEND) all count.
    Index(
        "outbox_state",
        "kind",
        "namespace",
        "name",
        unique=True,
        sqlite_where=text(f"op != {Op.APPEND.value}"),
    ),
)

# A component's own notes that survive a restart.
local = Table(
    "local",
    metadata,
    Column("owner", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", Blob, nullable=False),
    Column("checksum", Integer, nullable=False),
)

# schema_version, counter and fork (8 bytes, big-endian), database_id (16 random bytes), clock (two numbers),
# and two flags of one byte: welcomed, report_all.
checkpoint = Table(
    "checkpoint",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Blob, nullable=False),
    Column("checksum", Integer, nullable=False),
)
