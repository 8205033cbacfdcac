"""The mark: a few bytes beside the database that say how far it had come, written after every commit.

SQLite cannot tell that its -wal file is gone, or that its main file is an older copy: what is left is a sound
database of an earlier moment. The mark can: it knows a later transaction. It is never synced and need not be.
After a power cut it may be behind the database, which means nothing; only a database behind its mark lost something.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from synccore.messages import Lane

_LAYOUT = struct.Struct(">4s16sQQQ4Q")
_MAGIC = b"ARM1"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a database had come.

    Shapes:  serial: of its last transaction. counter: the last version used. log_counts: log rows by lane.
    """

    database_id: bytes
    serial: int
    counter: int
    object_count: int
    log_counts: tuple[int, ...]


def mark_path(path: Path) -> Path:
    """Return the path of the mark of the database at `path`."""
    return path.with_name(f"{path.name}.mark")


def read_mark(path: Path) -> Mark | None:
    """Return the mark of the database at `path`, or None if there is none that can be trusted."""
    try:
        content = mark_path(path).read_bytes()
    except OSError:
        return None
    body = content[: _LAYOUT.size]
    if len(content) != _LAYOUT.size + 4 or crc32(body).to_bytes(4, "big") != content[len(body) :]:
        return None
    magic, database_id, serial, counter, object_count, *log_counts = _LAYOUT.unpack(body)
    if magic != _MAGIC:
        return None
    return Mark(database_id, serial, counter, object_count, tuple(log_counts))


class MarkWriter:
    """Writes the mark; used by the writer thread only. A mark that cannot be written is only a check less."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(mark_path(path), flags, 0o600)

    def write(self, mark: Mark) -> None:
        """Overwrite the mark in one call: a reader sees the old one, the new one, or a wrong checksum."""
        assert len(mark.log_counts) == len(Lane)
        numbers = (mark.serial, mark.counter, mark.object_count, *mark.log_counts)
        body = _LAYOUT.pack(_MAGIC, mark.database_id, *numbers)
        try:
            os.pwrite(self._descriptor, body + crc32(body).to_bytes(4, "big"), 0)
        except OSError:
            return

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)
