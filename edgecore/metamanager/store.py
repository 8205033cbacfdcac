"""`MetaStore`: the component that owns the edge database and implements `RecordStore`."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection

from corekit.backoff import Backoff
from corekit.errors import StoreError
from corekit.logs import RepeatedFault
from edgecore import metrics
from edgecore.metamanager import gauges
from edgecore.metamanager.errors import StoreCorruptError, StoreFullError, StoreIOError
from edgecore.metamanager.feeds import Feed
from edgecore.metamanager.files import StoreFiles
from edgecore.metamanager.limits import Loss
from edgecore.metamanager.notes import LocalRepository
from edgecore.metamanager.objects import ObjectRepository
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.metamanager.transaction import Acknowledgement, Chore, Effects, Work
from edgecore.metamanager.writer import GroupWriter
from edgecore.records import Commit, OutboxRow, StoredObject
from edgecore.settings import StoreSettings
from synccore.index import RecordIndex
from synccore.messages import Lane, ObjectKey

logger = logging.getLogger(__name__)

T = TypeVar("T")
_CLOSE_TIMEOUT_S = 3.0
EXPIRY_INTERVAL_S = 60.0  # rows may be this much older than their bound
_REPLACEMENTS = (
    2  # of a damaged database, for one write: a disk that damages faster is not worth writing to
)
_READ_BACKOFF_S = (0.1, 5.0)
_READ_ATTEMPTS = 4  # in about a second; what cannot be read then is damaged


class MetaStore:
    """The node's durable memory, in one SQLite file.

    One thread writes and one reads, each with its own connection, so neither blocks the event loop or the
    other. A write returns when it is on the disk; then the index has it, then the feeds tell of it.
    A damaged file is replaced underneath: callers wait meanwhile and notice nothing but missing records.
    """

    name = "metamanager"
    index: RecordIndex  # of the stored objects; change it only through `commit()`

    def __init__(
        self, path: Path, settings: StoreSettings | None = None, *, node_name: str = ""
    ) -> None:
        self._files = StoreFiles(path, settings or StoreSettings(), node_name)
        self._feeds: defaultdict[str, list[Feed[ObjectKey]]] = defaultdict(list)
        self._outbox_feeds: list[Feed[Lane]] = []
        self._rebuilt_feeds: list[Feed[str]] = []
        # Objects that the last database held and this one does not: the cloud will send them, or they are gone.
        self._unsure: set[ObjectKey] = set()
        self._replacing = asyncio.Lock()
        self._closed = False
        self._fault = RepeatedFault(logger, "store")

    @property
    def transaction_count(self) -> int:
        """How many transactions were committed since the start; each cost one fsync."""
        return self._files.transactor.transaction_count

    @property
    def database_id(self) -> bytes:
        """16 bytes that name the database; a copy has the same."""
        return self._files.transactor.identity.database_id

    @property
    def fork(self) -> int:
        """The counter at the first start since the cloud last welcomed this database: where a copy would part."""
        return self._files.transactor.identity.fork

    @property
    def run_id(self) -> str:
        """Names this opening of the database; a copy, and the next start, have another."""
        return self._files.run_id

    @property
    def must_report_all(self) -> bool:
        """Whether reports were lost here, so that every state has to be reported again."""
        return self._files.transactor.identity.report_all

    async def __aenter__(self) -> Self:
        """Open, check and load the database.

        Raises:  ConfigError: the directory cannot be written, or another process has the database;
                 SchemaVersionError; StoreError.
        """
        await self._files.open()
        self.index = self._files.transactor.index
        self._say_damage()
        self._writer = GroupWriter(
            lambda works: self._files.transactor.run(works),
            self._publish,
            self._files.write_thread,
            gauges.wrote,
        )
        return self

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_S)
            with suppress(StoreError):  # said where it is raised, and the next round comes
                await self._submit(Chore.EXPIRE)

    async def __aexit__(self, *exc_info: object) -> None:
        """Store what was already asked for, then close the database."""
        try:
            await self._writer.close(_CLOSE_TIMEOUT_S)
        finally:
            async with self._replacing:
                self._closed = True
                await self._files.close()

    async def commit(self, commit: Commit) -> None:
        """Return once `commit` is durable; all of it is, or nothing.

        Shapes:  deltas: UPSERT, TOMBSTONE, or FORGET, whose `version` is a key hash. The order counts.
        Raises:  StoreFullError, OutboxFullError: try again later; StoreError.
        """
        await self._submit(commit)

    async def get(self, key: ObjectKey) -> StoredObject | None:
        """Return the stored object, or None. Raises: StoreError: `key` is not one that can be stored."""
        return await self._read(lambda connection: ObjectRepository(connection).get(key))

    async def list(self, kind: str) -> list[StoredObject]:
        """Return all stored objects of `kind`, sorted by key."""
        return await self._read(lambda connection: ObjectRepository(connection).of_kind(kind))

    async def local(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored with `Commit.local`."""
        return await self._read(lambda connection: LocalRepository(connection).owned_by(owner))

    def feed(self, *kinds: str) -> Feed[ObjectKey]:
        """Return a feed of changes of `kinds` from now on (tombstones too). It lives as long as the store."""
        feed = Feed[ObjectKey]()
        for kind in kinds:
            self._feeds[kind].append(feed)
        return feed

    async def unsent(
        self, lane: Lane, after: int, limit: int, max_bytes: int
    ) -> Sequence[OutboxRow]:
        """Return rows that wait in `lane`, in order of version, those above `after`.

        Shapes:  limit: rows at most. max_bytes: of all of them, but one row is returned whatever its size.
        """
        return await self._read(
            lambda connection: OutboxRepository(connection).unsent(lane, after, limit, max_bytes)
        )

    async def acknowledge(self, lane: Lane, rows: Sequence[tuple[ObjectKey, int]]) -> None:
        """Delete the rows whose version is still the given one; a row that changed meanwhile stays."""
        await self._submit(Acknowledgement(lane, rows))

    def outbox_feed(self) -> Feed[Lane]:
        """Return a feed of lanes that got new rows, from now on: look at `unsent()` once before waiting."""
        feed = Feed[Lane]()
        self._outbox_feeds.append(feed)
        return feed

    # What the hub tells and asks beside records.

    def rebuilt_feed(self) -> Feed[str]:
        """Return a feed that tells when a damaged database was replaced: what a session knows of it is wrong."""
        feed = Feed[str]()
        self._rebuilt_feeds.append(feed)
        return feed

    async def welcomed(self) -> None:
        """Note, durably, that the cloud took this database as the node's. Before anything is reported to it."""
        if not self._files.transactor.identity.welcomed:
            await self._submit(Chore.WELCOMED)

    async def reported_all(self) -> None:
        """Note that everybody was asked to report again."""
        if self.must_report_all:
            await self._submit(Chore.REPORTED)

    async def start_epoch(self) -> None:
        """Forget the states that wait, because the cloud has newer ones of this database: it is an old copy."""
        await self._submit(Chore.NEW_EPOCH)

    def converged(self) -> None:
        """Note that the cloud has sent all that was missing: what did not come back is gone."""
        gone, self._unsure = self._unsure, set()
        for key in gone:
            if self.index.version(key) is None:
                self._tell(key)

    async def refresh_gauges(self) -> None:
        """Set the gauges of the outbox to what it holds now."""
        gauges.show(await self._read(gauges.measure), self._files.transactor.now_ms)

    # Underneath.

    async def _submit(self, work: Work) -> None:
        """Store `work`; a damaged database is replaced first. Raises: StoreError."""
        for _ in range(_REPLACEMENTS):
            generation = self._files.generation
            try:
                await self._writer.submit(work)
            except StoreCorruptError as exc:
                await self._replace(generation, exc)
            except (StoreFullError, StoreIOError) as exc:
                self._fault.failed(exc)
                raise
            else:
                self._fault.cleared()
                return
        await self._writer.submit(work)

    async def _read(self, query: Callable[[Connection], T]) -> T:
        """Return what `query` finds; wait while the disk fails, for nobody can go on without an answer.

        Raises:  StoreError: what was asked for is nothing that can be stored.
        """
        backoff = Backoff(*_READ_BACKOFF_S)
        while True:
            generation = self._files.generation
            try:
                return await self._files.read(query)
            except (StoreCorruptError, StoreIOError, StoreFullError) as exc:
                problem = exc
            # A sector that stays unreadable is damage like any other.
            if isinstance(problem, StoreCorruptError) or backoff.attempt >= _READ_ATTEMPTS:
                try:
                    await self._replace(generation, problem)
                except StoreError as exc:
                    self._fault.failed(exc)
                else:
                    continue
            else:
                self._fault.failed(problem)
            await asyncio.sleep(backoff.next_delay_s())

    async def _replace(self, generation: int, problem: StoreError) -> None:
        # Shielded: a caller that is cancelled must not leave the store without files.
        await asyncio.shield(self._replace_once(generation, problem))

    async def _replace_once(self, generation: int, problem: StoreError) -> None:
        async with self._replacing:
            if generation == self._files.generation and not self._closed:
                words = problem.problem if isinstance(problem, StoreCorruptError) else str(problem)
                await self._files.replace(words, self._replaced)

    def _replaced(self) -> None:
        """Take up the new database, in the loop."""
        before, self.index = self.index, self._files.transactor.index
        # Not told to the feeds: to be missing here does not mean that the cloud wants it gone.
        self._unsure |= {key for key in before.keys() if self.index.version(key) is None}  # noqa: SIM118
        for key in self.index.keys():  # noqa: SIM118
            if self.index.version(key) != before.version(key):
                self._tell(key)
        self._say_damage()
        for rebuilt in self._rebuilt_feeds:
            rebuilt.notify((self.name,))
        for outbox_feed in self._outbox_feeds:
            outbox_feed.notify(Lane)

    def _say_damage(self) -> None:
        damage = self._files.damage
        if damage is not None:
            metrics.rebuilds.inc()
            gauges.lost(damage.losses)
            logger.warning("%s", damage.message)

    def _publish(self, effects: Effects) -> None:
        for key, version in effects.changes:
            self._unsure.discard(key)
            if version is None:
                self.index.drop(key)
            else:
                self.index.put(key, version)
            self._tell(key)
        for outbox_feed in self._outbox_feeds:
            outbox_feed.notify(effects.lanes)
        self._say_losses(effects.losses)

    def _say_losses(self, losses: Sequence[Loss]) -> None:
        gauges.lost(losses)
        for loss in losses:
            lane, many = loss.lane.name.lower(), loss.rows
            fields = {"first": loss.first, "last": loss.last, "bytes": loss.size_bytes}
            logger.warning(
                "outbox: %d log entries of lane %s lost: %s", many, lane, loss.reason, extra=fields
            )

    def _tell(self, key: ObjectKey) -> None:
        for feed in self._feeds.get(key.kind, ()):
            feed.notify((key,))
