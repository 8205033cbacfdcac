"""Questions over real gRPC: answered, refused, cut off with their link, and no harm to anything beside them."""

from __future__ import annotations

import asyncio

import pytest

from cloudcore.cloudhub.asks import AskRouter
from cloudcore.cloudhub.server import CloudHub
from edgecore.edgehub.client import EdgeHub
from edgecore.metamanager.store import MetaStore
from edgecore.records import Report
from synccore.asking import AskError
from synccore.messages import MAX_OUTSTANDING_ASKS, Lane, ObjectKey
from tests.fakes.cloud import FakeCounters, FakeSink, FakeSource
from tests.integration.test_sync_stream import Site, running, until

pytestmark = pytest.mark.timeout(30)

LEASE = ObjectKey("Lease", "kube-node-lease", "edge-1")


class Answering:
    """A cloud that echoes, refuses, or thinks about it until it is told to go on."""

    def __init__(self, site):
        self.waiting, self.go_on = 0, asyncio.Event()
        self.sink = FakeSink()
        answerers = {"Echo": self._echo, "Refuse": self._refuse, "Think": self._think}
        self.hub = CloudHub(
            site.cloud,
            source=FakeSource("edge-1"),
            sink=self.sink,
            counters=FakeCounters(),
            asks=AskRouter(answerers),
        )

    async def _echo(self, node, body):
        return 200, node.encode() + b":" + body

    async def _refuse(self, _node, _body):
        return 403, b"not for\nyou"

    async def _think(self, _node, body):
        self.waiting += 1
        try:
            await self.go_on.wait()
        finally:
            self.waiting -= 1
        return 200, body


@pytest.fixture
async def ends(tmp_path):
    site = Site(tmp_path)
    cloud, store = Answering(site), MetaStore(tmp_path / "edge.db")
    hub = EdgeHub(site.edge("edge-1"), "edge-1", store)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        yield cloud, hub


async def refusal(hub, kind):
    with pytest.raises(AskError) as caught:
        await hub.ask(kind, b"x")
    return caught.value.status, caught.value.reason


async def test_a_question_is_answered_and_the_cloud_knows_which_node_asked(ends):
    _, hub = ends
    answers = await asyncio.gather(*(hub.ask("Echo", b"%d" % n) for n in range(40)))
    assert answers == [b"edge-1:%d" % n for n in range(40)]


async def test_refusals_have_their_status_and_one_line(ends):
    _, hub = ends
    assert await refusal(hub, "Refuse") == (403, "not for?you")
    assert await refusal(hub, "Guess") == (404, "no such kind of question: Guess")


async def test_one_question_too_many_is_refused_while_leases_go_on(ends):
    cloud, hub = ends
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(hub.ask("Think", b"%d" % n)) for n in range(MAX_OUTSTANDING_ASKS)
        ]
        await until(lambda: cloud.waiting == MAX_OUTSTANDING_ASKS)
        assert (await refusal(hub, "Echo"))[0] == 429
        hub.offer(Report(LEASE, "", b"{}", Lane.CONTROL))
        await cloud.sink.until(lambda: cloud.sink.newest)
        cloud.go_on.set()
    assert [task.result() for task in asked] == [b"%d" % n for n in range(MAX_OUTSTANDING_ASKS)]


async def test_who_waits_when_the_link_ends_is_told_and_the_cloud_stops_working(ends):
    cloud, hub = ends
    asking = asyncio.create_task(refusal(hub, "Think"))
    await until(lambda: cloud.waiting == 1)
    hub._link._session.close("TEST", "enough")
    hub._link._to_send.set()
    assert await asking == (0, "the link ended before the answer")
    await until(lambda: cloud.waiting == 0)
    await until(lambda: hub.in_sync)
    assert await hub.ask("Echo", b"again") == b"edge-1:again"


async def test_without_a_link_nobody_waits(tmp_path):
    site = Site(tmp_path)
    hub = EdgeHub(site.edge("edge-1"), "edge-1", MetaStore(tmp_path / "edge.db"))
    assert await refusal(hub, "Echo") == (0, "no link to cloudcore")
