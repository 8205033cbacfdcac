"""Two hundred nodes that were cut at once come back: at the rate, each once or twice, and then it is quiet."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest

from cloudcore.cloudhub.admission import Admission
from cloudcore.cloudhub.asks import NothingToAsk
from cloudcore.cloudhub.fence import DatabaseFence
from cloudcore.cloudhub.link import NodeLink, Surroundings
from cloudcore.cloudhub.registry import NodeRegistry
from cloudcore.cloudhub.samples import TakenBlocks
from cloudcore.samples import SampleFanout
from corekit.errors import TransportError
from edgecore.edgehub.client import EdgeHub
from edgecore.settings import HubSettings
from synccore.changes import ChangeIds
from synccore.cloud_session import CloudSession
from synccore.index import RecordIndex
from tests.fakes.cloud import FakeCounters, FakeSink, FakeSource

# Few and slow enough that a busy machine does not make a heartbeat late; the last turn is later than a heartbeat.
NODES = 200
RATE_PER_S, BURST = 40.0, 20
HEARTBEAT_S = 3.0


class GoneError(TransportError):
    pass


class Pipe:
    """One end of a stream in memory."""

    def __init__(self):
        self.inbox, self.peer = asyncio.Queue(), None

    async def send(self, messages):
        for message in messages:
            self.peer.inbox.put_nowait(message)

    async def receive(self):
        message = await self.inbox.get()
        if message is None:
            raise GoneError("the other end left")
        return message


class Hub:
    """The hub without gRPC: links of real sessions, driven by the real tick."""

    def __init__(self, *nodes, tells_spread=False):
        self.tells_spread = tells_spread
        self.counters, ids = FakeCounters(), ChangeIds()
        self.source = FakeSource(*nodes)
        self.surroundings = Surroundings(
            source=self.source,
            sink=FakeSink(),
            samples=SampleFanout(),
            asks=NothingToAsk(),
            taken=TakenBlocks(),
            fence=DatabaseFence(),
            registry=NodeRegistry(1.0),
            admission=Admission(RATE_PER_S, BURST),
            counters=self.counters,
            clock=time.monotonic,
            next_change_id=lambda: ids.next(1),
        )
        self.links, self.pipes, self.dialled = set(), set(), 0
        self.joined_at = []

    def dialler(self, node):
        @asynccontextmanager
        async def dial(_settings):
            self.dialled += 1
            edge, cloud = Pipe(), Pipe()
            edge.peer, cloud.peer = cloud, edge
            task = asyncio.create_task(self._serve(node, cloud))
            self.pipes.add(edge)
            try:
                yield edge
            finally:
                self.pipes.discard(edge)
                cloud.inbox.put_nowait(None)
                await task

        return dial

    async def _serve(self, node, pipe):
        session = CloudSession(
            time.monotonic(), heartbeat_s=HEARTBEAT_S, window_frames=4, spread_s=self._spread_s
        )
        link = NodeLink(node, pipe, session, self.surroundings)
        self.links.add(link)
        try:
            await link.serve()
        except* Exception as group:
            self.counters.ended(getattr(group.exceptions[0], "code", "LINK_LOST"))
        finally:
            self.links.discard(link)
            pipe.peer.inbox.put_nowait(None)

    def _spread_s(self):
        hub = self.surroundings
        return hub.admission.spread_s(len(hub.registry)) if self.tells_spread else 0.0

    async def tick(self):
        while True:
            await asyncio.sleep(HEARTBEAT_S / 8)
            for link in list(self.links):
                link.tick(time.monotonic())

    def cut(self):
        for pipe in self.pipes:
            pipe.inbox.put_nowait(None)


class Store:
    def __init__(self):
        self.database_id, self.index = os.urandom(16), RecordIndex()
        self.run_id, self.fork, self.must_report_all = os.urandom(16).hex(), 0, False

    async def local(self, _owner):
        return {}

    async def commit(self, commit):
        for delta in commit.deltas:
            self.index.put(delta.key, delta.version)

    async def unsent(self, *_):
        return []

    async def welcomed(self):
        pass

    def converged(self):
        pass

    def outbox_feed(self):
        class Feed:
            async def changed(self):
                await asyncio.Event().wait()

        return Feed()

    rebuilt_feed = outbox_feed


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tells_spread", [False, True], ids=["herd", "spread"])
async def test_a_storm_of_two_hundred_nodes_is_over_in_the_time_that_the_rate_says(tells_spread):
    names = [f"edge-{n}" for n in range(NODES)]
    hub = Hub(*names, tells_spread=tells_spread)
    edges = [
        EdgeHub(HubSettings(backoff_min_s=0.1), name, Store(), dial_with=hub.dialler(name))
        for name in names
    ]
    ticking = asyncio.create_task(hub.tick())
    async with asyncio.TaskGroup() as group:
        tasks = []
        for edge in edges:
            await edge.__aenter__()
            tasks.append(group.create_task(edge.run()))
        while not all(edge.in_sync for edge in edges):
            await asyncio.sleep(0.02)
        while tells_spread and not all(edge._link.spread_s > 4.4 for edge in edges):
            await asyncio.sleep(0.02)  # who came first learns from its pongs how many came after
        before, dialled = len(hub.counters.joins), hub.dialled
        refused = hub.counters.ends["NOT_NOW"]
        begun = time.monotonic()
        hub.cut()
        while any(edge.in_sync for edge in edges):
            await asyncio.sleep(0)
        while not all(edge.in_sync for edge in edges):
            await asyncio.sleep(0.02)
        took_s = time.monotonic() - begun
        came, dials = len(hub.counters.joins) - before, hub.dialled - dialled
        refused = hub.counters.ends["NOT_NOW"] - refused
        await asyncio.sleep(HEARTBEAT_S)
        assert len(hub.counters.joins) - before == came  # no second wave
        for task in tasks:
            task.cancel()
    ticking.cancel()
    assert came == NODES
    # Told to spread, they come as their turns do, and hardly anybody is sent away; the slack is for a busy machine.
    assert refused < NODES / 4 if tells_spread else refused > 0
    assert (
        dials <= 2 * NODES + 50
    )  # each was told once at most; the slack is for a clock that jumped
    if not tells_spread:  # the last of those who draw a time may draw an early one
        assert took_s >= (NODES - BURST) / RATE_PER_S * 0.9
