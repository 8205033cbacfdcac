"""The far side of cloudhub, by hand: records to send, and a sink that remembers what nodes reported."""

from __future__ import annotations

import asyncio
from collections import Counter

from synccore.index import RecordIndex, record_version
from synccore.messages import Delta, ObjectKey, Op


class FakeView:
    def __init__(self, source, node, on_change):
        self._source, self._node, self._on_change = source, node, on_change

    @property
    def index(self):
        return self._source.indexes[self._node]

    def read(self, key):
        body = self._source.records[self._node].get(key)
        if body is None:
            return None
        return Delta(Op.UPSERT, key, "u", record_version("u", body), body=body)

    def close(self):
        self._source.watchers.remove((self._node, self._on_change))


class FakeSource:
    """`RecordSource` over a dict per node."""

    def __init__(self, *nodes):
        self.synced, self.newest = True, 0
        self.records = {node: {} for node in nodes}
        self.indexes = {node: RecordIndex() for node in nodes}
        self.watchers = []

    def ready(self, node, horizon=0):
        return self.synced and horizon <= self.newest

    def horizon(self):
        return self.newest

    def open(self, node, on_change, on_given_up):
        self.watchers.append((node, on_change))
        self.give_up = on_given_up
        return FakeView(self, node, on_change)

    def put(self, node, key, body):
        self.records[node][key] = body
        self.indexes[node].put(key, record_version("u", body))
        self._tell(node, key)

    def drop(self, node, key):
        del self.records[node][key]
        self.indexes[node].drop(key)
        self._tell(node, key)

    def _tell(self, node, key):
        for watched, on_change in self.watchers:
            if watched == node:
                on_change(key)


class FakeSink:
    """`ReportSink` that keeps the newest report per node and key; `hold()` makes writes wait."""

    def __init__(self):
        self.newest: dict[tuple[str, ObjectKey], Delta] = {}
        self.writes: list[tuple[str, Delta]] = []
        self.open = asyncio.Event()
        self.open.set()
        self._written = asyncio.Condition()

    async def write(self, node, delta):
        await self.open.wait()
        self.newest[node, delta.key] = delta
        self.writes.append((node, delta))
        async with self._written:
            self._written.notify_all()

    async def until(self, predicate):
        async with self._written:
            await self._written.wait_for(predicate)


class FakeCounters:
    def __init__(self):
        self.sent_objects: Counter[str] = Counter()
        self.joins: list[bool] = []
        self.ends: Counter[str] = Counter()
        self.aside: Counter[str] = Counter()
        self.frames, self.deltas, self.bytes = Counter(), Counter(), Counter()
        self.sessions, self.waiting, self.lags_s, self.gauged_at = 0, 0, {}, []

    def sent(self, kind, op, count):
        self.sent_objects[kind] += count

    def joined(self, *, in_sync):
        self.joins.append(in_sync)

    def moved(self, direction, lane, frame_count, delta_count, size_bytes):
        self.frames[direction, lane] += frame_count
        self.deltas[direction, lane] += delta_count
        self.bytes[direction, lane] += size_bytes

    def ended(self, code):
        self.ends[code] += 1

    def set_aside(self, kind):
        self.aside[kind] += 1

    def gauge(self, session_count, waiting_count, lags_s):
        self.sessions, self.waiting, self.lags_s = session_count, waiting_count, lags_s
        self.gauged_at.append(asyncio.get_running_loop().time())
