"""The open files of the store and the two threads that use them; what replaces a damaged database underneath."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from corekit.errors import StoreError
from edgecore.metamanager import opening, recovery
from edgecore.metamanager.errors import StoreCorruptError, translated
from edgecore.metamanager.limits import bounds_of
from edgecore.metamanager.marks import Mark, read_mark
from edgecore.metamanager.recovery import Damage
from edgecore.metamanager.transaction import Transactor
from edgecore.settings import StoreSettings

T = TypeVar("T")


class StoreFiles:
    """One writer and one reader on the database at `path`. `generation` grows when the database is replaced."""

    transactor: Transactor

    def __init__(self, path: Path, settings: StoreSettings, node_name: str) -> None:
        self.path, self._node_name = path, node_name
        self._bounds = bounds_of(settings)
        self.generation = 0
        self.run_id = ""
        self.damage: Damage | None = None
        self._reader: Connection | None = None
        self._last_mark: Mark | None = None

    async def open(self) -> None:
        """Take the lock and open the database; `damage` tells what was wrong with it."""
        self.write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = ThreadPoolExecutor(1, "store-read")
        try:
            await self._on(self.write_thread, self._open)
        except BaseException:
            self._stop_threads()
            raise
        self.run_id = self.transactor.identity.run_id

    async def close(self) -> None:
        """Close the database and release the lock."""
        await self._on(self._read_thread, self._close_reader)
        await self._on(self.write_thread, self.transactor.close)
        self._stop_threads()
        os.close(self._lock)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Return what `query` returns. Raises: StoreError."""
        return await self._on(self._read_thread, functools.partial(self._run_query, query))

    async def replace(self, problem: str, replaced: Callable[[], None]) -> None:
        """Move the database aside and go on with what can be saved of it; then call `replaced`.

        `replaced` is called in the loop before the effects of any later write arrive there.
        Raises:  StoreError: not now, a disk without room for instance; call it again.
        """
        await self._on(self._read_thread, self._close_reader)
        done = asyncio.get_running_loop().run_in_executor(self.write_thread, self._replace, problem)
        done.add_done_callback(
            lambda future: None if future.cancelled() or future.exception() else replaced()
        )
        await done

    def _open(self) -> None:
        opening.prepare_directory(self.path)
        self._lock = opening.take_lock(self.path)
        try:
            self._use_or_rebuild()
        except BaseException:
            os.close(self._lock)
            raise

    def _use_or_rebuild(self) -> None:
        mark = read_mark(self.path)
        connection, damage = recovery.open_or_rebuild(self.path)
        try:
            self._use(connection, damage)
        except StoreCorruptError as exc:  # found while it was loaded
            self._use(*recovery.rebuild(self.path, exc.problem, mark))

    def _use(self, connection: Connection, damage: Damage | None) -> None:
        with ExitStack() as undo:
            undo.callback(connection.close)
            transactor = self._load(connection, damage)
            undo.callback(transactor.close)
            self._reader = opening.connect_readonly(self.path)
            self.transactor, self.damage = transactor, damage
            undo.pop_all()

    def _load(self, connection: Connection, damage: Damage | None) -> Transactor:
        return Transactor(
            connection,
            self.path,
            bounds=self._bounds,
            node_name=self._node_name,
            damage=damage,
            run_id=self.run_id,
        )

    def _replace(self, problem: str) -> None:
        self._last_mark = (
            self.transactor.mark
        )  # memory knows better than the file beside the database
        self.transactor.close()
        self._use(*recovery.rebuild(self.path, problem, self._last_mark))
        self.generation += 1

    def _run_query(self, query: Callable[[Connection], T]) -> T:
        if self._reader is None:
            raise StoreCorruptError(self.path, "is being replaced")
        try:
            return query(self._reader)
        except (SQLAlchemyError, StoreError, ValueError, OverflowError) as exc:
            raise translated(exc, self.path) from exc

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    @staticmethod
    async def _on(thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call)

    def _stop_threads(self) -> None:
        self.write_thread.shutdown(wait=False)
        self._read_thread.shutdown(wait=False)
