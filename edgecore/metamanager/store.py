"""`MetaStore`: the component that owns the edge database and implements `RecordStore`."""

from __future__ import annotations

import asyncio
import functools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corekit.errors import StoreError
from edgecore.metamanager import opening
from edgecore.metamanager.errors import StoreCorruptError, translated
from edgecore.metamanager.feeds import Feed
from edgecore.metamanager.notes import LocalRepository
from edgecore.metamanager.objects import ObjectRepository
from edgecore.metamanager.outbox import OutboxRepository
from edgecore.metamanager.transaction import Acknowledgement, Effects, Transactor, Work
from edgecore.metamanager.writer import GroupWriter
from edgecore.records import Commit, OutboxRow, StoredObject
from synccore.index import RecordIndex
from synccore.messages import Lane, ObjectKey

T = TypeVar("T")
_CLOSE_TIMEOUT_S = 3.0


class MetaStore:
    """The node's durable memory, in one SQLite file.

    One thread writes and one reads, each with its own connection, so neither blocks the event loop or the
    other. A write returns when it is on the disk; then the index has it, then the feeds tell of it.
    """

    name = "metamanager"
    database_id: bytes
    index: RecordIndex  # of the stored objects; change it only through `commit()`

    def __init__(self, path: Path) -> None:
        self._path = path
        self._feeds: defaultdict[str, list[Feed[ObjectKey]]] = defaultdict(list)
        self._outbox_feeds: list[Feed[Lane]] = []

    @property
    def transaction_count(self) -> int:
        """How many transactions were committed since the start; each cost one fsync."""
        return self._transactor.transaction_count

    async def __aenter__(self) -> Self:
        """Open, check and load the database.

        Raises:  ConfigError: the directory cannot be written, or another process has the database;
                 SchemaVersionError; StoreError.
        """
        self._damaged: asyncio.Future[StoreError] = asyncio.get_running_loop().create_future()
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = ThreadPoolExecutor(1, "store-read")
        try:
            await asyncio.get_running_loop().run_in_executor(self._write_thread, self._open)
        except BaseException:
            self._stop_threads()
            raise
        self.database_id, self.index = self._transactor.database_id, self._transactor.index
        self._writer = GroupWriter(self._transactor.run, self._publish, self._write_thread)
        return self

    async def run(self) -> None:
        """Serve until cancelled. Raises: StoreCorruptError: found while running; start again to rebuild."""
        raise await asyncio.shield(self._damaged)

    async def __aexit__(self, *exc_info: object) -> None:
        """Store what was already asked for, then close the database."""
        try:
            await self._writer.close(_CLOSE_TIMEOUT_S)
        finally:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._read_thread, self._reader.close)
            await loop.run_in_executor(self._write_thread, self._transactor.close)
            self._stop_threads()
            os.close(self._lock)

    async def commit(self, commit: Commit) -> None:
        """Return once `commit` is durable; all of it is, or nothing.

        Shapes:  deltas: UPSERT, TOMBSTONE, or FORGET, whose `version` is a key hash. The order counts.
        Raises:  StoreFullError: try again later; StoreError.
        """
        await self._submit(commit)

    async def get(self, key: ObjectKey) -> StoredObject | None:
        """Return the stored object, or None."""
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

    def _open(self) -> None:
        opening.prepare_directory(self._path)
        self._lock = opening.take_lock(self._path)
        try:
            with ExitStack() as undo:
                connection = undo.enter_context(opening.open_checked(self._path))
                self._transactor = Transactor(connection, self._path)
                self._reader = opening.connect_readonly(self._path)
                undo.pop_all()
        except BaseException:
            os.close(self._lock)
            raise

    async def _submit(self, work: Work) -> None:
        try:
            await self._writer.submit(work)
        except StoreCorruptError as exc:
            self._note_damage(exc)
            raise

    async def _read(self, query: Callable[[Connection], T]) -> T:
        call = functools.partial(query, self._reader)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._read_thread, call)
        except (SQLAlchemyError, ValueError, OverflowError) as exc:
            problem = translated(exc, self._path)
            if isinstance(problem, StoreCorruptError):
                self._note_damage(problem)
            raise problem from exc

    def _note_damage(self, exc: StoreError) -> None:
        if not self._damaged.done():
            self._damaged.set_result(exc)

    def _publish(self, effects: Effects) -> None:
        for key, version in effects.changes:
            if version is None:
                self.index.drop(key)
            else:
                self.index.put(key, version)
            for feed in self._feeds.get(key.kind, ()):
                feed.notify((key,))
        for outbox_feed in self._outbox_feeds:
            outbox_feed.notify(effects.lanes)

    def _stop_threads(self) -> None:
        self._write_thread.shutdown(wait=False)
        self._read_thread.shutdown(wait=False)
