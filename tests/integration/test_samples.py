"""Readings from the edge's buffer to a subscriber at the cloud: real gRPC with mutual TLS, real SQLite."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from cloudcore.cloudhub.server import CloudHub
from edgecore.edgehub.client import EdgeHub
from edgecore.metamanager.store import MetaStore
from edgecore.records import SAMPLE_BLOCK, Commit, OutboxRow, Report
from edgecore.samples.buffer import SampleBuffer
from synccore.messages import Lane, ObjectKey, Op
from synccore.series import Series
from tests.fakes.cloud import FakeCounters, FakeSink, FakeSource
from tests.fakes.samples import FakeSamples
from tests.integration.test_sync_stream import Site, running, until

pytestmark = pytest.mark.timeout(20)

PUMP = Series("default/pump", "pressure")
EVENT = Report(ObjectKey("Event", "default", "pump.1"), "u", b"{}", Lane.SAMPLES)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def cloud(site, samples, sink=None):
    return CloudHub(
        site.cloud,
        source=FakeSource("edge-1"),
        sink=sink or FakeSink(),
        counters=FakeCounters(),
        samples=samples,
    )


def edge(site):
    store = MetaStore(site.folder / "edge.db")
    buffer = SampleBuffer(store)
    return store, buffer, EdgeHub(site.edge("edge-1"), "edge-1", store, samples=buffer)


def batch(buffer, *times, value=1.5):
    number = buffer.series(*PUMP)
    return array("I", [number] * len(times)), array("q", times), [value] * len(times)


class FakeStore:
    """A store whose outbox holds the given blocks; everything else is the real store's."""

    def __init__(self, store, blocks):
        self._store = store
        self._rows = [
            OutboxRow(Report(SAMPLE_BLOCK, "", block, Lane.SAMPLES, Op.APPEND), sequence)
            for block, sequence in blocks
        ]
        self.acknowledged = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def unsent(self, lane, after, limit, max_bytes):
        return [row for row in self._rows if row.report.lane is lane and row.version > after]

    async def acknowledge(self, lane, rows):
        self.acknowledged += rows


async def emptied(store):
    while await store.unsent(Lane.SAMPLES, 0, 10, 1000):
        await asyncio.sleep(0.01)


async def test_readings_of_both_ways_reach_the_subscriber_beside_events(site):
    samples, sink = FakeSamples(), FakeSink()
    store, buffer, hub = edge(site)
    async with running(cloud(site, samples, sink), store, hub):
        await until(lambda: hub.connected)
        buffer.put(*batch(buffer, 1, 2))
        await store.commit(Commit(reports=[EVENT]))
        await buffer.put_durable(*batch(buffer, 3, value="open"))
        await sink.until(lambda: sink.newest)
        await until(lambda: len(samples.taken) == 3)
        await emptied(store)
    assert samples.taken == {(PUMP, 1, 1.5): 1, (PUMP, 2, 1.5): 1, (PUMP, 3, "open"): 1}
    origins = {origin.sequence > 0 for origin, _ in samples.blocks}
    assert origins == {True, False}
    assert all(o.node == "edge-1" and o.database_id == store.database_id for o, _ in samples.blocks)


async def test_durable_readings_made_offline_survive_a_restart_and_leave_when_they_were_taken(site):
    store, buffer, hub = edge(site)
    async with running(store, hub):
        for time_ms in range(50):
            await buffer.put_durable(*batch(buffer, time_ms))
    samples = FakeSamples()
    store, _, hub = edge(site)
    async with running(cloud(site, samples), store, hub):
        await until(lambda: len(samples.taken) == 50)
        await emptied(store)
    assert set(samples.taken.values()) == {1}


async def test_a_block_the_subscriber_did_not_take_stays_at_the_edge_and_comes_again(site):
    samples = FakeSamples()
    samples.open.clear()
    store, buffer, hub = edge(site)
    async with running(store, hub):
        async with running(cloud(site, samples)):
            await until(lambda: hub.connected)
            await buffer.put_durable(*batch(buffer, 1))
            buffer.put(*batch(buffer, 2))
            await asyncio.sleep(0.2)
        assert len(await store.unsent(Lane.SAMPLES, 0, 10, 1000)) == 1
        again = FakeSamples()
        async with running(cloud(site, again)):
            await until(lambda: len(again.taken) == 2)
            await emptied(store)
    assert not samples.blocks


async def test_a_durable_block_that_comes_again_to_the_same_cloud_is_taken_once(site):
    samples = FakeSamples()
    store, buffer, hub = edge(site)
    async with running(cloud(site, samples), store):
        async with running(hub):
            await until(lambda: hub.connected)
            await buffer.put_durable(*batch(buffer, 1))
            await emptied(store)
        (origin, _) = samples.blocks[0]
        same = SampleBuffer(store)
        # The row is back, as after a crash between the acknowledgement and the commit that deletes it.
        block = same._encoder.encode(*batch(same, 1))
        restored = FakeStore(store, [(block, origin.sequence)])
        hub = EdgeHub(site.edge("edge-1"), "edge-1", restored)
        async with running(hub):
            await until(lambda: restored.acknowledged)
    assert samples.taken == {(PUMP, 1, 1.5): 1}


async def test_a_block_that_does_not_decode_ends_the_session_with_its_byte_and_nothing_else(
    site, caplog
):
    samples = FakeSamples()
    store, _, hub = edge(site)
    async with running(cloud(site, samples), store, hub):
        await until(lambda: hub.connected)
        torn = Report(SAMPLE_BLOCK, "", b"\x02" + bytes(12) + b"\xff", Lane.SAMPLES, Op.APPEND)
        await store.commit(Commit(reports=[torn]))
        await until(lambda: "BAD_FRAME" in caplog.text)
    assert not samples.blocks
