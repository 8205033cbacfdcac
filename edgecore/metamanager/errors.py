"""What the store can fail with, and the translation from SQLite's words."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from corekit.errors import StoreError

# Primary result codes of sqlite.org/rescode.html; the low byte of an extended code.
_IO, _CORRUPT, _FULL, _NOT_A_DATABASE = 10, 11, 13, 26
# Below this the next commit does not fit: one page of WAL for each table and index that it touches.
MIN_FREE_BYTES = 64 << 10


class StoreCorruptError(StoreError):
    """The database is damaged; the next start moves it aside and makes a fresh one."""

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


def translated(exc: Exception, path: Path) -> StoreError:
    """Return the StoreError that says what `exc`, raised while `path` was used, means to a caller."""
    if not isinstance(exc, DBAPIError):
        problem = exc.args[0] if isinstance(exc, SQLAlchemyError) and exc.args else exc
        return StoreError(f"{path}: {problem}")
    code = getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF
    if code in (_CORRUPT, _NOT_A_DATABASE):
        return StoreCorruptError(path, str(exc.orig))
    # A quota, a file size limit and a full tmpfs under the -shm file come as I/O errors.
    if code == _FULL or (code == _IO and _no_room(path)):
        return StoreFullError(path)
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
