"""What the store can fail with, and the translation from SQLite's words."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from corekit.errors import StoreError
from edgecore.metamanager.checksums import DamagedRowError

# Primary result codes of sqlite.org/rescode.html; the low byte of an extended code.
_IO, _FULL, _CANNOT_OPEN = 10, 13, 14
# Besides the plain ones (CORRUPT, NOTADB): our statements never have a logic error, a vanished table, a constraint
# or a datatype that does not fit; if SQLite says so, its catalogue or an index is damaged.
_ERROR, _CORRUPT, _SCHEMA, _CONSTRAINT, _MISMATCH, _FORMAT, _NOT_A_DATABASE = (
    1,
    11,
    17,
    19,
    20,
    24,
    26,
)
_DAMAGE = {_ERROR, _CORRUPT, _SCHEMA, _CONSTRAINT, _MISMATCH, _FORMAT, _NOT_A_DATABASE}
# The driver's own words, without a code, for a text that is not UTF-8 (any more).
_NOT_UTF8 = "Could not decode to UTF-8"
# Below this the next commit does not fit: one page of WAL for each table and index that it touches.
MIN_FREE_BYTES = 64 << 10


class StoreCorruptError(StoreError):
    """The database is damaged; it is moved aside and made anew."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: damaged: {problem}")


class SchemaVersionError(StoreError):
    """The database was written by a newer release."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        self.path, self.found, self.known = path, found, known
        super().__init__(f"{path}: schema {found} is newer than this release knows ({known})")


class StoreFullError(StoreError):
    """No room on the disk; nothing of the commit was stored. The same call works once there is room."""

    retryable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path}: no space left on the disk")


class StoreIOError(StoreError):
    """The disk fails; nothing of the commit was stored. It may pass, or not."""

    retryable = True


class OutboxFullError(StoreError):
    """A lane whose policy is to reject holds all it may; nothing of the commit was stored."""

    retryable = True

    def __init__(self, lane: str, max_bytes: int) -> None:
        self.lane, self.max_bytes = lane, max_bytes
        super().__init__(f"outbox lane {lane} holds its limit of {max_bytes} bytes")


def translated(exc: Exception, path: Path) -> StoreError:
    """Return the StoreError that says what `exc`, raised while `path` was used, means to a caller."""
    if isinstance(exc, DamagedRowError):
        return StoreCorruptError(path, str(exc))
    if isinstance(exc, StoreError):
        return exc
    if not isinstance(exc, DBAPIError):
        problem = exc.args[0] if isinstance(exc, SQLAlchemyError) and exc.args else exc
        return StoreError(f"{path}: {problem}")
    code = getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGE or str(exc.orig).startswith(_NOT_UTF8):
        return StoreCorruptError(path, str(exc.orig))
    # A quota, a file size limit and a full tmpfs under the -shm file come as I/O errors.
    if code == _FULL or (code == _IO and _no_room(path)):
        return StoreFullError(path)
    if code in (_IO, _CANNOT_OPEN):
        return StoreIOError(f"{path}: {exc.orig}")
    return StoreError(f"{path}: {exc.orig}")


def _no_room(path: Path) -> bool:
    disk = os.statvfs(path.parent)
    if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return limit != resource.RLIM_INFINITY and _largest_bytes(path) + MIN_FREE_BYTES > limit


def _largest_bytes(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return max((file.stat().st_size for file in files if file.exists()), default=0)
