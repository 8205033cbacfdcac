"""One transaction for many units of work: what group commit does on the writer thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corekit.errors import StoreError
from corekit.failpoints import failpoint
from edgecore.metamanager.checksums import DamagedRowError
from edgecore.metamanager.clock import DatabaseClock
from edgecore.metamanager.errors import StoreCorruptError, translated
from edgecore.metamanager.identity import Identity
from edgecore.metamanager.limits import Bound, LogKeeper, Loss
from edgecore.metamanager.losses import LossReporter
from edgecore.metamanager.marks import Mark, MarkWriter
from edgecore.metamanager.notes import CheckpointRepository, LocalRepository
from edgecore.metamanager.notices import rebuilt_event
from edgecore.metamanager.objects import Change, ObjectRepository
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.metamanager.recovery import Damage
from edgecore.records import Commit, Report
from synccore.messages import Lane, ObjectKey


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Rows of the outbox that are durable beyond cloudcore, with the versions that are."""

    lane: Lane
    rows: Sequence[tuple[ObjectKey, int]]


class Chore(Enum):
    """Work of the store's own."""

    EXPIRE = "drop log rows that are too old"
    WELCOMED = "the cloud has taken this database as the node's"
    REPORTED = "every state was reported again"
    NEW_EPOCH = "this database is an old copy: forget what it wanted to say, start a new epoch"


Work = Commit | Acknowledgement | Chore


@dataclass(slots=True)
class Effects:
    """What a durable transaction changed, for the index, the feeds and the counters."""

    changes: list[Change] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)


class Transactor:
    """The write connection and the repositories on it; used by one thread at a time."""

    def __init__(
        self,
        connection: Connection,
        path: Path,
        *,
        bounds: dict[Lane, Bound],
        node_name: str = "",
        damage: Damage | None = None,
        run_id: str = "",
    ) -> None:
        self._connection, self._path, self._bounds = connection, path, bounds
        self._objects = ObjectRepository(connection)
        self._outbox = OutboxRepository(connection)
        self._local = LocalRepository(connection)
        self._checkpoint = CheckpointRepository(connection)
        self._losses = LossReporter(self._outbox)
        self.transaction_count = 0
        try:
            with connection.begin():
                self.identity = Identity(self._checkpoint, run_id)
                self._clock = DatabaseClock(self._checkpoint, serial=damage.serial if damage else 0)
                self._keeper = LogKeeper(self._outbox, bounds)
                if damage is not None:
                    self._recover(damage, node_name)
                self.index = self._objects.index()
                self.identity.store()
                self._clock.store()
        except (SQLAlchemyError, DamagedRowError) as exc:
            raise translated(exc, path) from exc
        self._mark_file = MarkWriter(path)
        self._object_count = len(self.index)
        self._write_mark()

    @property
    def now_ms(self) -> int:
        """The database's own clock."""
        return self._clock.now_ms()

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
        self._mark_file.close()

    def _alone(self, work: Work) -> Effects | StoreError:
        try:
            return self._commit([work])[0]
        except StoreError as exc:
            return exc

    def _commit(self, works: Sequence[Work]) -> list[Effects]:
        held, identity = dict(self._keeper.held), self.identity.copied()
        try:
            with self._connection.begin():
                failpoint("store.before_write")
                effects = [self._apply(work) for work in works]
                count = self._object_count
                if any(effect.changes for effect in effects):
                    count = self._objects.count()
                self.identity.store()
                self._clock.store()
                failpoint("store.before_commit")
            failpoint("store.after_commit")
        except (SQLAlchemyError, ValueError, OverflowError, StoreError) as exc:
            # ValueError and OverflowError: text or numbers that SQLite cannot take, from a peer perhaps.
            self._keeper.held = held
            self.identity.restore(identity)
            raise translated(exc, self._path) from exc
        self.transaction_count += 1
        self._object_count = count
        self._write_mark()
        return effects

    def _apply(self, work: Work) -> Effects:
        if isinstance(work, Acknowledgement):
            self._keeper.acknowledged(work.lane, self._outbox.acknowledge(work.lane, work.rows))
            return Effects()
        if isinstance(work, Chore):
            return self._do(work)
        effects = Effects()
        for delta in work.deltas:
            effects.changes.extend(self._objects.apply(delta))
        effects.losses = self._keeper.admit(work.reports)
        self._report(effects, work.reports)
        self._local.put(work.local)
        return effects

    def _do(self, chore: Chore) -> Effects:
        effects = Effects()
        if chore is Chore.EXPIRE:
            effects.losses = self._keeper.expire(self._clock.now_ms())
        elif chore is Chore.WELCOMED:
            self.identity.welcomed = True
        elif chore is Chore.REPORTED:
            self.identity.report_all = False
        elif chore is Chore.NEW_EPOCH:
            self._outbox.drop_states()
            # Log rows keep their numbers: what the original has sent is known by them, and what this copy has logged
            # since it was opened has numbers that the original does not use.
            self.identity.start_epoch(self.identity.counter)
        self._report(effects, ())
        return effects

    def _report(self, effects: Effects, reports: Sequence[Report]) -> None:
        """Put reports, and those of the losses, into the outbox."""
        now_ms = self._clock.now_ms()
        if effects.losses:
            reports = [*reports, *self._losses.reports(effects.losses, now_ms, time.time())]
        if reports:
            self._outbox.put(reports, self.identity.take(len(reports)), now_ms)
            effects.lanes |= {report.lane for report in reports}

    def _recover(self, damage: Damage, node_name: str) -> None:
        if not damage.keep_states:
            self._outbox.drop_states()
        self.identity.adopt(damage.database_id)
        self.identity.start_epoch(max(damage.counter, self.identity.counter))
        effects = Effects(losses=damage.losses)
        reports = [rebuilt_event(node_name, damage.message, time.time())] if node_name else []
        self._report(effects, reports)

    @property
    def mark(self) -> Mark:
        """How far the database has come."""
        counts = tuple(self._keeper.held[lane].rows for lane in Lane)
        numbers = (self._clock.serial, self.identity.counter, self._object_count)
        return Mark(self.identity.database_id, *numbers, counts)

    def _write_mark(self) -> None:
        self._mark_file.write(self.mark)
