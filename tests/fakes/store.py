"""A RecordStore in memory, for tests of what uses one; durability is the real one's business."""

from __future__ import annotations

import asyncio

from edgecore.records import Commit, Report, StoredObject
from synccore.messages import ObjectKey, Op


class MemoryFeed:
    def __init__(self, kinds):
        self._kinds, self._keys, self._event = kinds, set(), asyncio.Event()

    def add(self, key):
        if key.kind in self._kinds:
            self._keys.add(key)
            self._event.set()

    async def changed(self):
        await self._event.wait()
        self._event.clear()
        keys, self._keys = self._keys, set()
        return keys


class MemoryStore:
    """`reports` holds every report in order, `objects` what the cloud sent."""

    def __init__(self):
        self.objects: dict[ObjectKey, StoredObject] = {}
        self.notes: dict[tuple[str, str], bytes] = {}
        self.reports: list[Report] = []
        self.commit_count = 0
        self._feeds: list[MemoryFeed] = []

    async def commit(self, commit: Commit):
        self.commit_count += 1
        for delta in commit.deltas:
            if delta.op is Op.UPSERT:
                stored = StoredObject(delta.key, delta.uid, delta.version, delta.body)
                self.objects[delta.key] = stored
            else:
                self.objects.pop(delta.key, None)
            for feed in self._feeds:
                feed.add(delta.key)
        self.reports += commit.reports
        for key, note in commit.local.items():
            if note is None:
                self.notes.pop(key, None)
            else:
                self.notes[key] = note
        await asyncio.sleep(0)

    async def get(self, key):
        return self.objects.get(key)

    async def list(self, kind):
        return sorted((o for o in self.objects.values() if o.key.kind == kind), key=lambda o: o.key)

    async def local(self, owner):
        return {key: note for (who, key), note in self.notes.items() if who == owner}

    def feed(self, *kinds):
        feed = MemoryFeed(kinds)
        self._feeds.append(feed)
        return feed
