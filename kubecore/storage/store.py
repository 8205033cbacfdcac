"""All current objects in memory, each as its encoded bytes, and one writer thread that makes changes durable.

Readers see committed state only. Writers see what is on its way too (`latest`), so that two changes of one
object in one group commit do not lose each other. Knows nothing of kinds.
"""

from __future__ import annotations

import asyncio
import bisect
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from kubecore.storage.database import Database, Row
from kubecore.storage.errors import StoreWriteError

Object = dict[str, Any]
ObjectName = tuple[str, str]  # (namespace or "", name)
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

# More per transaction gains nothing measurable and delays the first answer of the batch.
MAX_BATCH = 256

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


class StoredObject:
    """One object at one revision; immutable, shared by every reader."""

    __slots__ = ("name", "namespace", "raw", "revision")

    def __init__(self, namespace: str, name: str, revision: int, raw: bytes) -> None:
        self.namespace, self.name, self.revision, self.raw = namespace, name, revision, raw

    @classmethod
    def encode(cls, obj: Object, revision: int) -> Self:
        """Return `obj` stamped with `revision`; apiVersion and kind come first in its bytes."""
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(revision)
        ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **obj}
        return cls(
            metadata.get("namespace", ""), metadata["name"], revision, _encoder.encode(ordered)
        )

    def parse(self) -> Object:
        """Return the object as a dict of the caller's own."""
        obj: Object = _decoder.decode(self.raw)
        return obj


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change. `entry` of a DELETED one is the last state at the revision of the deletion."""

    type: ChangeType
    storage: str
    entry: StoredObject
    previous: StoredObject | None


@dataclass(slots=True)
class _Job:
    change: Change
    done: asyncio.Future[StoredObject]


_STOP, _RESUME = object(), object()


class Store:
    """Component: open the state file on enter, commit changes in `run()`'s thread, close it on exit."""

    name = "store"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.revision = 0  # of the newest committed change
        self._assigned = 0  # of the newest change on its way
        self._objects: dict[str, dict[ObjectName, StoredObject]] = {}
        self._names: dict[str, list[ObjectName]] = {}  # sorted; dropped when a name comes or goes
        self._pending: dict[tuple[str, ObjectName], Change] = {}
        self._changed: dict[str, int] = {}
        self._in_flight: deque[_Job] = deque()
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._listeners: list[Callable[[Change], None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._database = await asyncio.to_thread(Database, self._path)
        self.revision = self._assigned = self._database.revision
        for row in self._database.rows():
            entry = StoredObject(row.namespace, row.name, row.revision, row.value or b"")
            self._objects.setdefault(row.storage, {})[row.namespace, row.name] = entry
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._jobs.put(_STOP)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._database.close, self._assigned)

    async def run(self) -> None:
        """Serve until cancelled; the thread does the work."""
        await asyncio.Event().wait()

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with every committed change, in order, before its writer gets the answer."""
        self._listeners.append(listener)

    def get(self, storage: str, namespace: str, name: str) -> StoredObject | None:
        """Return the committed object, or None."""
        return self._objects.get(storage, {}).get((namespace, name))

    def latest(self, storage: str, namespace: str, name: str) -> StoredObject | None:
        """Return the object as it will be once all changes on their way are committed."""
        change = self._pending.get((storage, (namespace, name)))
        if change is None:
            return self.get(storage, namespace, name)
        return None if change.type == "DELETED" else change.entry

    def entries(self, storage: str, namespace: str = "") -> list[StoredObject]:
        """Return the committed objects, of one namespace or all, ordered by namespace and name."""
        objects = self._objects.get(storage, {})
        names = self._names.get(storage)
        if names is None:
            names = self._names[storage] = sorted(objects)
        if namespace:
            start = bisect.bisect_left(names, (namespace, ""))
            names = names[start : bisect.bisect_left(names, (namespace + "\0", ""))]
        return [objects[name] for name in names]

    def upcoming(self, storage: str) -> list[StoredObject]:
        """Return the objects as they will be once all changes on their way are committed; in no order."""
        objects = dict(self._objects.get(storage, {}))
        for (other, name), change in self._pending.items():
            if other != storage:
                continue
            if change.type == "DELETED":
                objects.pop(name, None)
            else:
                objects[name] = change.entry
        return list(objects.values())

    def storages(self) -> list[str]:
        """Return every storage that holds an object."""
        return [storage for storage, objects in self._objects.items() if objects]

    def changed(self, storage: str) -> int:
        """Return the revision of the newest committed change in `storage`; 0 if none since start."""
        return self._changed.get(storage, 0)

    async def put(self, storage: str, obj: Object) -> StoredObject:
        """Store `obj` (which the store then owns) and return it with its revision, once it is durable.

        The revision is taken before the first suspension: check `latest` and call this without an await between.
        Raises:  StoreWriteError: it did not happen.
        """
        self._assigned += 1
        entry = StoredObject.encode(obj, self._assigned)
        previous = self.latest(storage, entry.namespace, entry.name)
        kind: ChangeType = "ADDED" if previous is None else "MODIFIED"
        return await self._submit(Change(kind, storage, entry, previous))

    async def remove(self, storage: str, obj: Object) -> StoredObject:
        """Remove the object whose last state is `obj`; otherwise as `put`."""
        self._assigned += 1
        entry = StoredObject.encode(obj, self._assigned)
        previous = self.latest(storage, entry.namespace, entry.name)
        return await self._submit(Change("DELETED", storage, entry, previous))

    def _submit(self, change: Change) -> asyncio.Future[StoredObject]:
        self._pending[change.storage, (change.entry.namespace, change.entry.name)] = change
        job = _Job(change, self._loop.create_future())
        self._in_flight.append(job)
        self._jobs.put(job)
        return job.done

    def _committed(self, count: int) -> None:
        for _ in range(count):
            job = self._in_flight.popleft()
            self._apply(job.change)
            for listener in self._listeners:
                listener(job.change)
            if not job.done.done():  # its client may have hung up; the change stands
                job.done.set_result(job.change.entry)

    def _apply(self, change: Change) -> None:
        entry, storage = change.entry, change.storage
        name = (entry.namespace, entry.name)
        objects = self._objects.setdefault(storage, {})
        if change.type == "DELETED":
            objects.pop(name, None)
            self._names.pop(storage, None)
        else:
            if name not in objects:
                self._names.pop(storage, None)
            objects[name] = entry
        self.revision = self._changed[storage] = entry.revision
        if self._pending.get((storage, name)) is change:
            del self._pending[storage, name]

    def _failed(self, error: StoreWriteError) -> None:
        """Undo everything on its way: later changes were made on top of the one that failed."""
        jobs, self._in_flight = self._in_flight, deque()
        self._pending.clear()
        for job in jobs:
            if not job.done.done():
                job.done.set_exception(error)
        self._jobs.put(_RESUME)

    def _write_loop(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                self._database.write([_row(job.change) for job in batch])
            except StoreWriteError as exc:
                self._loop.call_soon_threadsafe(self._failed, exc)
                while (job := self._jobs.get()) is not _RESUME:
                    if job is _STOP:
                        return
            else:
                self._loop.call_soon_threadsafe(self._committed, len(batch))

    def _next_batch(self) -> Sequence[_Job] | None:
        """Wait for a job, then take what else is there; None at the end."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not _STOP:
            batch.append(job)
            if len(batch) == MAX_BATCH or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if batch:
            self._jobs.put(_STOP)
        return batch or None


def _row(change: Change) -> Row:
    entry = change.entry
    value = None if change.type == "DELETED" else entry.raw
    return Row(change.storage, entry.namespace, entry.name, entry.revision, value)
