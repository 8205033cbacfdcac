"""A database that is damaged, or behind its mark: what is saved of it, and as what it goes on.

It keeps its identity and gets a new epoch, so that no version of what was lost is ever used again; the cloud's
digest then brings back whatever objects are missing. docs/protocol.md, "Databases and epochs".
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corekit.errors import ConfigError
from edgecore.metamanager import opening
from edgecore.metamanager.errors import StoreCorruptError, StoreFullError, translated
from edgecore.metamanager.limits import DAMAGED, Loss
from edgecore.metamanager.marks import Mark, read_mark
from edgecore.metamanager.notes import CheckpointRepository, numbers
from edgecore.metamanager.salvage import Salvage, salvage
from synccore.messages import Lane

logger = logging.getLogger(__name__)

# Epochs stand above the counter in every version, so versions of a database grow across its epochs too.
EPOCH_SHIFT = 48
# Damaged databases that are kept for whoever wants to know why; older ones are removed, or they fill the disk.
KEPT_ASIDE_COUNT = 2


@dataclass(frozen=True, slots=True)
class Damage:
    """What befell a database, for the transaction that goes on from there.

    Shapes:  counter, serial: to go on from. keep_states: the state rows saved are the newest there were.
    """

    problem: str
    aside: Path | None
    counter: int
    serial: int
    database_id: bytes | None = None
    keep_states: bool = False
    losses: list[Loss] = field(default_factory=list)

    @property
    def message(self) -> str:
        """Say it in one line."""
        where = f"; moved aside to {self.aside}" if self.aside else ""
        return f"{self.problem}{where}; what is missing comes from the cloud"


def next_epoch(counter: int) -> int:
    """Return the counter that starts the epoch after that of `counter`."""
    return ((counter >> EPOCH_SHIFT) + 1) << EPOCH_SHIFT


def open_or_rebuild(path: Path) -> tuple[Connection, Damage | None]:
    """Return a connection to the database at `path` and what is wrong with it, if anything is.

    Raises:  SchemaVersionError; ConfigError: another program's database, no room; StoreError.
    """
    _finish_rebuild(path)
    mark = read_mark(path)
    try:
        connection = opening.open_database(path)
    except StoreCorruptError as exc:
        return rebuild(path, exc.problem, mark)
    except StoreFullError as exc:
        raise ConfigError(str(path.parent), "", "no space left on the disk") from exc
    try:
        with connection.begin():
            return connection, _behind(path, CheckpointRepository(connection).all(), mark)
    except SQLAlchemyError as exc:
        connection.close()
        raise translated(exc, path) from exc


def rebuild(path: Path, problem: str, mark: Mark | None) -> tuple[Connection, Damage]:
    """Move the database at `path` aside and return a fresh one with what could be saved. It must be closed.

    Raises:  StoreError: and the old one still stands where it stood; StoreFullError among them.
    """
    fresh = _rebuild_path(path)
    _remove(fresh)
    saved = Salvage()
    connection = opening.open_database(fresh)
    try:
        with connection.begin():
            count = mark.object_count if mark else None
            saved = salvage(path, connection, object_count=count)
    except SQLAlchemyError as exc:
        raise translated(exc, path) from exc
    finally:
        connection.close()  # its -wal file goes with that, so one rename puts it into place
    aside = quarantine(path)
    fresh.rename(path)
    opening.sync_directory(path)
    return opening.open_database(path), _damage_of(
        f"{path}: damaged: {problem}", aside, saved, mark
    )


def quarantine(path: Path) -> Path:
    """Rename the database with its -wal file; return the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    count = 1
    while aside.exists():  # twice within a second
        aside, count = path.with_name(f"{path.name}.damaged-{stamp}.{count}"), count + 1
    wal, shm = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    shm.unlink(missing_ok=True)  # an index of the -wal file, made anew when needed
    if wal.exists() and not wal.stat().st_size:
        wal.unlink()
    # The database last: a crash in between must not lose the name.
    for suffix in ("-wal", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    opening.sync_directory(path)
    _remove_oldest(path)
    return aside


def _behind(path: Path, notes: dict[str, bytes], mark: Mark | None) -> Damage | None:
    """Return what the database lost, if its mark knows a later moment of it."""
    serial, counter = sum(numbers(notes.get("clock", b""))[:1]), sum(numbers(notes["counter"]))
    if mark is None or (mark.database_id != notes["database_id"] and serial > 0):
        return None  # no mark, or another machine's database was put here: the cloud will know it
    if serial >= mark.serial:
        return None
    problem = f"{path}: {mark.serial - serial} transactions are missing (is it an old copy?)"
    saved = Salvage(checkpoint={"database_id": mark.database_id})
    return _damage_of(problem, None, saved, mark, floor=counter)


def _damage_of(
    problem: str, aside: Path | None, saved: Salvage, mark: Mark | None, floor: int = 0
) -> Damage:
    counter = max(saved.counter, mark.counter if mark else 0, floor)
    serial = max(saved.serial, mark.serial if mark else 0)
    losses = []
    if mark is not None and aside is not None:
        losses = [
            Loss(lane, DAMAGED, 0, mark.counter, before - after, 0)
            for lane, before, after in zip(Lane, mark.log_counts, saved.log_counts, strict=True)
            if before > after
        ]
    return Damage(
        problem,
        aside,
        counter,
        serial,
        database_id=mark.database_id if mark else saved.database_id,
        keep_states=aside is not None and mark is not None and saved.serial >= mark.serial,
        losses=losses,
    )


def _rebuild_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.rebuild")


def _finish_rebuild(path: Path) -> None:
    # Ended between the two renames: the fresh one is complete, or the old one would still be there.
    fresh = _rebuild_path(path)
    if fresh.exists() and not path.exists():
        fresh.rename(path)
        opening.sync_directory(path)
    _remove(fresh)


def _remove_oldest(path: Path) -> None:
    asides = sorted(
        found
        for found in path.parent.glob(f"{path.name}.damaged-*")
        if not found.name.endswith(("-wal", "-shm"))
    )
    for old in asides[:-KEPT_ASIDE_COUNT]:
        _remove(old)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
