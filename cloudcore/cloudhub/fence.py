"""Which database speaks for a node, and how far the cloud has heard it: old copies are turned away.

docs/protocol.md, "Databases and epochs". What outlives this process is an annotation of the Node, which
whoever writes Node reports keeps up to date with `annotation()`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from cloudcore.cloudhub.registry import RefusedError
from cloudcore.seams import ReportSink
from synccore.errors import STALE_DATABASE
from synccore.messages import Delta, Hello, ObjectKey, Op

K = TypeVar("K")
V = TypeVar("V")

ANNOTATION = "armadillo.edge/database"
EPOCH_SHIFT = 48  # epochs stand above the counter in every version
# Keys and sequences remembered per node: a window of frames in each lane; beyond it nothing can be sent twice.
MAX_KEYS, MAX_SEQUENCES = 4096, 8192
# What a node still has it sends first when it comes back, and while it is connected it sends nothing twice. So what it
# wrote longer ago than this, while it went on writing, is forgotten: 8,192 sequences are a mebibyte.
REMEMBERED_S = 600.0
_RUN_CHARS = 8
# It starts a new epoch at once and comes back; sooner than a back-off would have it.
_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Recorded:
    """A database as the Node's annotation knows it."""

    database: str
    version: int
    run: str


def encode_record(recorded: Recorded) -> str:
    """Return the annotation: database:epoch:version:run."""
    epoch = recorded.version >> EPOCH_SHIFT
    return f"{recorded.database}:{epoch}:{recorded.version}:{recorded.run}"


def decode_record(text: str) -> Recorded | None:
    """Return what an annotation says, or None if it says nothing that we wrote."""
    parts = text.split(":")
    if len(parts) != 4 or not parts[2].isascii() or not parts[2].isdigit() or len(parts[2]) > 20:
        return None
    return Recorded(parts[0], int(parts[2]), parts[3])


class Lately(Generic[K, V]):
    """What was put lately: the last `limit` at least, but what is older than `REMEMBERED_S` goes with later puts.

    Two generations; a new one begins when the younger is full or old. Who puts nothing forgets nothing.
    """

    __slots__ = ("_before", "_limit", "_now", "_since_s")

    def __init__(self, limit: int) -> None:
        self._limit, self._since_s = limit, 0.0
        self._now: dict[K, V] = {}
        self._before: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def get(self, key: K, default: V) -> V:
        """Return what was put last under `key`."""
        return self._now.get(key, self._before.get(key, default))

    def put(self, key: K, value: V, now_s: float) -> None:
        """Remember `value`. Units: now_s: monotonic."""
        if len(self._now) >= self._limit or now_s - self._since_s >= REMEMBERED_S:
            self._before, self._now, self._since_s = self._now, {}, now_s
        self._now[key] = value
        self._before.pop(key, None)


@dataclass(slots=True)
class _Database:
    """The database that spoke last for a node. `high`: the newest version written, of all but Node reports."""

    name: str
    run: str
    high: int
    versions: Lately[ObjectKey, int] = field(default_factory=lambda: Lately(MAX_KEYS))
    sequences: Lately[int, int] = field(default_factory=lambda: Lately(MAX_SEQUENCES))


class DatabaseFence:
    """Databases by node.

    Shapes:  recorded(node): the Node's annotation, "" if there is none. clock: monotonic seconds.
    """

    def __init__(
        self,
        recorded: Callable[[str], str] = lambda _node: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorded, self.clock = recorded, clock
        self._databases: dict[str, _Database] = {}
        # Weak: a lock lives as long as somebody holds or awaits it.
        self._locks: WeakValueDictionary[tuple[str, ObjectKey], asyncio.Lock] = (
            WeakValueDictionary()
        )

    def join(self, node: str, hello: Hello) -> _Database:
        """Return the database that said `hello` as the node's own.

        Raises:  RefusedError: STALE_DATABASE: more was written of this database than it knows of.
        """
        name, run = hello.database_id.hex(), hello.boot_id[:_RUN_CHARS]
        recorded, held = decode_record(self._recorded(node)), self._databases.get(node)
        known = [(r.database, r.version, r.run) for r in (recorded,) if r is not None]
        known += [(held.name, held.high, held.run)] if held else []
        ours = [(version, other) for database, version, other in known if database == name]
        for version, other in ours:
            if other != run and hello.fork < version:
                raise RefusedError(
                    STALE_DATABASE,
                    f"database {name[:8]} stood at {hello.fork} when it was opened, and {version} of it "
                    "is written: it is a copy from before",
                    _RETRY_S,
                )
        if held is None or held.name != name:
            held = _Database(name, run, max((version for version, _ in ours), default=0))
        held.run = run
        self._databases[node] = held
        return held

    def annotation(self, node: str) -> str:
        """Return what the Node's annotation must say, "" if nothing is known."""
        held = self._databases.get(node)
        return encode_record(Recorded(held.name, held.high, held.run)) if held else ""

    def lock(self, node: str, key: ObjectKey) -> asyncio.Lock:
        """Return the lock of one record of one node, for all sessions."""
        return self._locks.setdefault((node, key), asyncio.Lock())

    def guard(self, sink: ReportSink) -> FencedSink:
        """Return a sink for one session."""
        return FencedSink(self, sink)


class FencedSink:
    """`ReportSink` of one session: a state that is not newer than what was written of its key is not written again.

    Nor is a log entry whose sequence was. Both count as done, so that they are acknowledged.
    """

    def __init__(self, fence: DatabaseFence, sink: ReportSink) -> None:
        self._fence, self._sink = fence, sink
        self._database: _Database | None = None

    def join(self, node: str, hello: Hello) -> None:
        """Bind the session to its database. Raises: RefusedError."""
        self._database = self._fence.join(node, hello)

    async def write(self, node: str, delta: Delta) -> None:
        """Return when `delta`, or something newer of its key, is durable beyond cloudcore."""
        database = self._database
        assert database is not None, "reports come after the Hello"
        if delta.op is Op.APPEND:
            await self._append(database, node, delta)
        elif not delta.version:  # volatile: a lease, made anew each time
            await self._sink.write(node, delta)
        else:
            # Two sessions of one node may overlap; what the older one still holds must not go last.
            lock = self._fence.lock(node, delta.key)
            async with lock:
                await self._put(database, node, delta)

    async def _append(self, database: _Database, node: str, delta: Delta) -> None:
        if database.sequences.get(delta.sequence, 0):
            return
        await self._sink.write(node, delta)
        database.sequences.put(delta.sequence, 1, self._fence.clock())
        database.high = max(database.high, delta.sequence)

    async def _put(self, database: _Database, node: str, delta: Delta) -> None:
        if delta.version <= database.versions.get(delta.key, 0):
            return
        await self._sink.write(node, delta)
        database.versions.put(delta.key, delta.version, self._fence.clock())
        if delta.key.kind != "Node":  # those carry the annotation, and must not make it change
            database.high = max(database.high, delta.version)
