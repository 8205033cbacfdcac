"""One transaction for many units of work: what group commit does on the writer thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corekit.errors import StoreError
from corekit.failpoints import failpoint
from edgecore.metamanager.errors import StoreCorruptError, translated
from edgecore.metamanager.notes import CheckpointRepository, LocalRepository
from edgecore.metamanager.objects import Change, ObjectRepository
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.records import Commit
from synccore.messages import Lane, ObjectKey


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Rows of the outbox that are durable beyond cloudcore, with the versions that are."""

    lane: Lane
    rows: Sequence[tuple[ObjectKey, int]]


Work = Commit | Acknowledgement


@dataclass(slots=True)
class Effects:
    """What a durable transaction changed, for the index and the feeds."""

    changes: list[Change] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)


class Transactor:
    """The write connection and the repositories on it; used by one thread at a time."""

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._objects = ObjectRepository(connection)
        self._outbox = OutboxRepository(connection)
        self._local = LocalRepository(connection)
        self._checkpoint = CheckpointRepository(connection)
        self.transaction_count = 0
        try:
            with connection.begin():
                notes = self._checkpoint.all()
                self.index = self._objects.index()
        except SQLAlchemyError as exc:
            raise translated(exc, path) from exc
        self.database_id = notes["database_id"]
        self._counter = int.from_bytes(notes["counter"], "big")

    def run(self, works: Sequence[Work]) -> list[Effects | StoreError]:
        """Make all of `works` durable with one fsync; return the outcome of each.

        If that fails each is tried alone, so that one that cannot be stored does not fail the others.
        """
        try:
            return [*self._commit(works)]
        except StoreError as exc:
            if len(works) == 1 or isinstance(exc, StoreCorruptError):
                return [exc for _ in works]
        return [self._alone(work) for work in works]

    def close(self) -> None:
        """Release the database; the last connection to close empties the -wal file."""
        self._connection.close()

    def _alone(self, work: Work) -> Effects | StoreError:
        try:
            return self._commit([work])[0]
        except StoreError as exc:
            return exc

    def _commit(self, works: Sequence[Work]) -> list[Effects]:
        before = self._counter
        try:
            with self._connection.begin():
                failpoint("store.before_write")
                effects = [self._apply(work) for work in works]
                if self._counter != before:
                    self._checkpoint.put_number("counter", self._counter)
                failpoint("store.before_commit")
            failpoint("store.after_commit")
        except (SQLAlchemyError, ValueError, OverflowError) as exc:
            # ValueError and OverflowError: text or numbers that SQLite cannot take, from a peer perhaps.
            raise translated(exc, self._path) from exc
        self.transaction_count += 1
        return effects

    def _apply(self, work: Work) -> Effects:
        if isinstance(work, Acknowledgement):
            self._outbox.acknowledge(work.lane, work.rows)
            return Effects()
        effects = Effects(lanes={report.lane for report in work.reports})
        for delta in work.deltas:
            effects.changes.extend(self._objects.apply(delta))
        # Counted before they are stored and never taken back: a number of a failed try is not used again.
        first, self._counter = self._counter + 1, self._counter + len(work.reports)
        self._outbox.put(work.reports, first)
        self._local.put(work.local)
        return effects
