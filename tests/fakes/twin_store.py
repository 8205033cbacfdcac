"""A RecordStore in memory whose disk can be made to fail; the real one is tested with real files."""

from __future__ import annotations

import asyncio

from corekit.errors import StoreError
from edgecore.records import ChangeFeed, Commit, StoredObject
from synccore.messages import ObjectKey, Op


class FailingStore:
    """Commits fail while `failing` is set."""

    def __init__(self) -> None:
        self.failing = asyncio.Event()
        self.commits: list[Commit] = []
        self._objects: dict[ObjectKey, StoredObject] = {}
        self._local: dict[tuple[str, str], bytes] = {}
        self._feeds: list[_Feed] = []

    async def commit(self, commit: Commit) -> None:
        if self.failing.is_set():
            raise StoreError("disk full")
        self.commits.append(commit)
        for key, note in commit.local.items():
            if note is None:
                self._local.pop(key, None)
            else:
                self._local[key] = note
        for delta in commit.deltas:
            if delta.op is Op.UPSERT:
                held = StoredObject(delta.key, delta.uid, delta.version, delta.body)
                self._objects[delta.key] = held
            else:
                self._objects.pop(delta.key, None)
            for feed in self._feeds:
                feed.notify(delta.key)

    async def get(self, key: ObjectKey) -> StoredObject | None:
        return self._objects.get(key)

    async def list(self, kind: str) -> list[StoredObject]:
        return sorted(
            (o for o in self._objects.values() if o.key.kind == kind), key=lambda o: o.key
        )

    async def local(self, owner: str) -> dict[str, bytes]:
        return {key: note for (whose, key), note in self._local.items() if whose == owner}

    def feed(self, *kinds: str) -> ChangeFeed:
        self._feeds.append(_Feed(kinds))
        return self._feeds[-1]


class _Feed:
    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds, self._keys, self._event = kinds, set(), asyncio.Event()

    def notify(self, key: ObjectKey) -> None:
        if key.kind in self._kinds:
            self._keys.add(key)
            self._event.set()

    async def changed(self) -> set[ObjectKey]:
        await self._event.wait()
        self._event.clear()
        keys, self._keys = self._keys, set()
        return keys
