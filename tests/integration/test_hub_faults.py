"""Dead links, poison records and hostile peers, over real gRPC: noticed in time, named in both logs, nobody else hurt."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import itertools
import logging
import re
import time
from contextlib import asynccontextmanager

import pytest

from corekit.errors import TransportError
from corekit.logs import HumanFormatter
from edgecore.app import rejection_events
from edgecore.edgehub.client import EdgeHub
from edgecore.edgehub.stream import dial
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.codec import encode_batch
from synccore.messages import (
    Ack,
    Compression,
    Delta,
    Frame,
    Hello,
    Inventory,
    Lane,
    ObjectKey,
    Op,
    Ping,
    Rejected,
)
from synccore.pb import sync_pb2 as pb
from tests.fakes.cloud import FakeSource
from tests.fakes.tcp_proxy import BOTH, DOWN, UP, TcpProxy
from tests.integration.test_sync_stream import LAMP, POD, Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def edge_through(site, proxy, store):
    settings = dataclasses.replace(site.edge("edge-1"), server=proxy.address)
    return EdgeHub(settings, "edge-1", store)


@pytest.mark.parametrize("ways", [BOTH, {UP}, {DOWN}], ids=["both-ways", "up", "down"])
async def test_a_black_hole_is_noticed_by_both_ends_within_two_heartbeats(site, ways):
    cloud = Cloud(site)
    store = MetaStore(site.folder / "edge.db")
    async with TcpProxy("127.0.0.1", site.port) as proxy:
        hub = edge_through(site, proxy, store)
        async with running(cloud.hub, store, hub):
            await until(lambda: hub.in_sync and cloud.counters.sessions == 1)
            begun = time.monotonic()
            await proxy.black_hole(frozenset(ways))
            noticed = {}
            while len(noticed) < 2:
                await asyncio.sleep(0.01)
                if not hub.connected:
                    noticed.setdefault("edge", time.monotonic() - begun)
                if not cloud.hub._links:
                    noticed.setdefault("cloud", time.monotonic() - begun)
            # A tick of an eighth, and what a busy machine takes.
            assert max(noticed.values()) < 2.5 * site.cloud.heartbeat_s + 0.5
            await proxy.heal()
            await until(lambda: hub.in_sync)


@pytest.mark.timeout(60)
async def test_joins_wait_for_their_turn_on_the_open_stream_and_are_counted_meanwhile(site):
    site.cloud = dataclasses.replace(site.cloud, admit_per_s=0.7, admit_burst=1, heartbeat_s=10.0)
    names = [f"edge-{n}" for n in range(1, 4)]
    cloud = Cloud(site, FakeSource(*names))
    stores = [MetaStore(site.folder / f"{name}.db") for name in names]
    hubs = [
        EdgeHub(site.edge(name), name, store) for name, store in zip(names, stores, strict=True)
    ]
    async with running(cloud.hub, *stores, *hubs):
        await until(lambda: cloud.counters.waiting > 0)
        await until(lambda: all(hub.in_sync for hub in hubs))
        await until(lambda: (cloud.counters.waiting, cloud.counters.sessions) == (0, 3))
        assert not cloud.counters.ends  # one dial each
        assert hubs[-1]._link.spread_s <= 2 / 0.7
        # Gauges do not wait for the heartbeat of ten seconds.
        gauged = len(cloud.counters.gauged_at)
        await until(lambda: len(cloud.counters.gauged_at) >= gauged + 2)
    gaps = [b - a for a, b in itertools.pairwise(cloud.counters.gauged_at)]
    assert min(gaps) < 1.5


async def test_a_lost_link_is_dialled_again_within_the_spread_that_the_cloud_told(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        cloud.hub._surroundings.admission.spread_s = lambda _count: 250.0  # as of many nodes
        link, draws = hub._link, []
        await until(lambda: link.spread_s == 250.0)  # by a pong
        hub._backoff._rng.uniform = lambda low, high: draws.append((low, high)) or 0.01
        (above,) = cloud.hub._links
        above._give_up(GoneError())  # no Close: the link is lost
        await until(lambda: hub._link is not link and hub.in_sync)
        assert draws[0] == (0.0, 250.0)
        cloud.hub._surroundings.admission.spread_s = lambda _count: 0.0
        link, dials = hub._link, len(draws)
        (above,) = cloud.hub._links
        above.end("SUPERSEDED", "a test", 0.0)  # one node's own affair
        await until(lambda: hub._link is not link and hub.in_sync)
        assert draws[dials:]
        assert all(high <= 0.2 for _, high in draws[dials:])


class GoneError(TransportError):
    pass


BAD = {
    "body that is no JSON": Delta(Op.UPSERT, POD, "u", 1, body=b"{nope", change_id=0xBAD),
    "unknown kind": Delta(Op.UPSERT, POD._replace(kind="Gadget"), "u", 1, body=b"{}"),
    "operation of the other direction": Delta(Op.APPEND, POD, "u", 1, 7, body=b"{}"),
}


class Poisoner(FakeSource):
    """Its records are what a test says they are."""

    def __init__(self, node, bad):
        super().__init__(node)
        self.bad = bad

    def open(self, node, on_change, on_given_up):
        view = super().open(node, on_change, on_given_up)
        read = view.read
        view.read = lambda key: self.bad if key == self.bad.key else read(key)
        return view


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_record_that_cannot_be_applied_is_set_aside_and_its_lane_goes_on(site, bad, caplog):
    cloud = Cloud(site, Poisoner("edge-1", bad))
    good = [POD._replace(name=f"good-{n}") for n in range(20)]
    for key in good[:10]:
        cloud.source.put("edge-1", key, b"{}")
    cloud.source.put("edge-1", bad.key, b"{}")
    for key in good[10:]:
        cloud.source.put("edge-1", key, b"{}")
    store = MetaStore(site.folder / "edge.db")
    hub = EdgeHub(site.edge("edge-1"), "edge-1", store, event_of=rejection_events("edge-1"))
    async with running(cloud.hub, store, hub):
        await until(lambda: len(store.index) == 20 and hub.in_sync)
        await until(lambda: cloud.counters.aside.total() == 1)
        cloud.source.put("edge-1", good[0], b'{"later":1}')  # on the same stream, in the same lane
        await until(lambda: store.index.digest() != b"" and len(cloud.counters.joins) == 1)
        while (await store.get(good[0])).body != b'{"later":1}':
            await asyncio.sleep(0.01)
        await cloud.sink.until(lambda: any(d.key.kind == "Event" for _, d in cloud.sink.writes))
    said = [r.getMessage() for r in caplog.records if "set aside" in r.getMessage()]
    assert any(text.startswith("cloudhub: node set aside") for text in said)
    assert any(text.startswith("edgehub:") for text in said)


@asynccontextmanager
async def log_of(package):
    """Collect the lines of one side as its file would have them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter())
    logger = logging.getLogger(package)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def steps(log, change, key):
    """What a grep for the change finds, in order: its steps."""
    lines = [line for line in log.getvalue().splitlines() if f"change={change}" in line.split()]
    assert all(str(key) in line for line in lines)
    return [re.search(r": (\w+) \w+ ", line).group(1) for line in lines]


async def test_one_change_is_followed_by_grep_through_both_logs_both_ways(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with log_of("cloudcore") as above, log_of("edgecore") as below:
        async with running(cloud.hub, store, hub):
            await until(lambda: hub.in_sync)
            cloud.source.put("edge-1", POD, b"{}")
            cloud.source.put("edge-1", LAMP, b"{}")
            await until(lambda: len(store.index) == 2)
            await until(lambda: above.getvalue().count("acknowledged") == 2)
            await store.commit(Commit(reports=[Report(LAMP, "u", b"{}", Lane.TWINS)]))
            await cloud.sink.until(lambda: cloud.sink.writes)
            await until(lambda: "acknowledged Device" in below.getvalue())
        queued = re.search(r"queued Pod default/web .*change=([0-9a-f]+)", above.getvalue())
        assert steps(above, queued[1], POD) == ["queued", "sent", "acknowledged"]
        assert steps(below, queued[1], POD) == ["applied"]
        sent = re.search(r"sent Device default/lamp-01 .*change=([0-9a-f]+)", below.getvalue())
        assert steps(below, sent[1], LAMP) == ["sent", "acknowledged"]
        assert steps(above, sent[1], LAMP) == ["received", "written"]


HELLO = Hello("edge-9", b"d" * 16, bytes(16), 0, "1", "boot")
EMPTY = encode_batch([])


def raw_frame(**fields):
    return pb.EdgeMessage(
        frame=pb.Frame(**{"lane": pb.LANE_PODS, "number": 1, "batch": EMPTY, **fields})
    )


HOSTILE = {
    "wrong-version": ([dataclasses.replace(HELLO, protocol=9)], "VERSION_MISMATCH"),
    "ack-of-what-was-never-sent": ([HELLO, Ack(Lane.PODS, 5)], "BAD_NUMBER"),
    "frame-out-of-sequence": ([HELLO, Frame(Lane.PODS, 7, EMPTY)], "BAD_NUMBER"),
    "truncated-frame": ([HELLO, Frame(Lane.PODS, 1, b"\x01\x00\x03Po")], "BAD_FRAME"),
    "lying-length": ([HELLO, Frame(Lane.PODS, 1, b"\x01\x00\xff\xff\x03")], "BAD_FRAME"),
    "lying-compression": (
        [HELLO, Frame(Lane.PODS, 1, b"x" * 50, Compression.ZLIB, 99)],
        "BAD_FRAME",
    ),
    "declared-too-large": (
        [HELLO, Frame(Lane.PODS, 1, b"x", Compression.ZLIB, 2**31)],
        "TOO_LARGE",
    ),
    "oversized-frame": ([HELLO, Frame(Lane.PODS, 1, bytes(3 << 20) + b"1")], "TOO_LARGE"),
    "unknown-compression": ([HELLO, raw_frame(compression=7)], "UNKNOWN_MESSAGE"),
    "unknown-lane": ([HELLO, raw_frame(lane=9)], "UNKNOWN_MESSAGE"),
    "unknown-message": ([HELLO, pb.EdgeMessage()], "UNKNOWN_MESSAGE"),
    "message-out-of-place": ([HELLO, HELLO], "UNEXPECTED_MESSAGE"),
    "inventory-before-hello": ([Inventory(b"", last=True)], "UNEXPECTED_MESSAGE"),
    "short-database-id": ([dataclasses.replace(HELLO, database_id=b"x")], "TOO_LARGE"),
    "another-nodes-name": ([dataclasses.replace(HELLO, node_name="edge-1")], "FORBIDDEN"),
    "log-forgery": (
        [HELLO, Rejected(Lane.PODS, POD, 1, 1, "x\n2026 ERROR forged"), Ping(1), HELLO],
        "UNEXPECTED_MESSAGE",
    ),
}


class RawStream:
    """What a program that is not ours might send."""

    def __init__(self, stream):
        self._stream = stream

    async def send(self, message):
        if isinstance(message, pb.EdgeMessage):
            await self._stream._call.write(message)
        else:
            await self._stream.send([message])


@pytest.mark.parametrize(("messages", "code"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_edge_is_closed_with_a_code_and_nobody_else_notices(
    site, messages, code, caplog
):
    caplog.set_level(logging.INFO)
    # The neighbour's own link must not end because the machine is busy.
    site.cloud = dataclasses.replace(site.cloud, heartbeat_s=10.0)
    cloud = Cloud(site, FakeSource("edge-1", "edge-9"))
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        async with dial(site.edge("edge-9")) as stream:
            for message in messages:
                await RawStream(stream).send(message)
            while True:
                said = await stream.receive()
                if hasattr(said, "code"):
                    break
        assert said.code == code
        await until(lambda: cloud.counters.ends[code] == 1)
        assert hub.in_sync  # and the neighbour has not been touched
        cloud.source.put("edge-1", POD, b"{}")
        await until(lambda: len(store.index) == 1)
        assert len(cloud.counters.joins) - code.count("x") <= 2
    lines = [r.getMessage() for r in caplog.records if "node left" in r.getMessage()]
    assert any(code in line for line in lines)
    assert not any("\n" in line for line in lines)


async def test_the_code_of_a_broken_contract_stands_in_both_logs(site, caplog):
    caplog.set_level(logging.INFO)
    cloud = Cloud(site)

    class Lying(FakeSource):
        def open(self, node, on_change, on_given_up):
            view = super().open(node, on_change, on_given_up)
            view.read = lambda key: Delta(Op.UPSERT, key, "u", 1, body=b"{}")
            return view

    cloud = Cloud(site, Lying("edge-1"))
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        (link,) = cloud.hub._links
        link._session._outgoing.append(Ack(Lane.PODS, 77))  # a bug at the cloud
        link._to_send.set()
        await until(lambda: cloud.counters.ends["BAD_NUMBER"] == 1)
        await until(lambda: hub.in_sync)
    text = caplog.text
    assert re.search(r"cloudhub: node left: .*BAD_NUMBER: acknowledgement 77", text)
    assert re.search(r"edgehub: no link to cloudcore: .*BAD_NUMBER", text)


async def test_a_node_gets_a_handful_of_streams_and_no_more(site):
    cloud = Cloud(site)
    calls = []
    async with running(cloud.hub):
        settings = site.edge("edge-1")
        async with asyncio.timeout(5):
            for _ in range(4):
                manager = dial(settings)
                await manager.__aenter__()
                calls.append(manager)
            await until(lambda: cloud.hub._streams["edge-1"] == 4)
            async with dial(settings) as fifth:
                with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
                    await fifth.receive()
        for manager in calls:
            await manager.__aexit__(None, None, None)


async def test_a_lease_passes_reports_of_pods_that_are_being_retried(site):
    cloud = Cloud(site)
    stuck = asyncio.Event()
    write = cloud.sink.write

    async def slow(node, delta):
        if delta.key.kind != "Lease":
            await stuck.wait()
        await write(node, delta)

    cloud.sink.write = slow
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        reports = [Report(POD._replace(name=f"p{n}"), "u", b"{}", Lane.PODS) for n in range(200)]
        events = [
            Report(ObjectKey("Event", "d", f"e{n}"), "", b"{}", Lane.SAMPLES) for n in range(200)
        ]
        node = Report(ObjectKey("Node", "", "edge-1"), "", b"{}", Lane.CONTROL)
        await store.commit(Commit(reports=[node, *reports, *events]))
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        hub.offer(Report(ObjectKey("Lease", "kube-node-lease", "edge-1"), "", b"{}", Lane.CONTROL))
        await cloud.sink.until(lambda: cloud.sink.writes)
        assert time.monotonic() - begun < 1.0
        stuck.set()


async def test_many_equal_bodies_cost_a_fraction_on_the_wire_and_secrets_are_not_compressed(site):
    cloud = Cloud(site)
    body = b'{"spec":{"containers":[{"name":"web","image":"registry.example/web:1"}]}}' * 1
    for number in range(500):
        cloud.source.put("edge-1", POD._replace(name=f"web-{number}"), body)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync and len(store.index) == 500)
        assert cloud.counters.bytes["down", Lane.PODS] < 0.5 * 500 * len(body)
        before = cloud.counters.bytes["down", Lane.PODS]
        secret = ObjectKey("Secret", "default", "token")
        cloud.source.put("edge-1", secret, b'{"data":"' + b"a" * 5000 + b'"}')
        await until(lambda: len(store.index) == 501)
        assert cloud.counters.bytes["down", Lane.PODS] - before > 5000


async def test_frames_that_came_during_a_commit_are_made_durable_together_and_acknowledged_at_once(
    site,
):
    cloud = Cloud(site)
    store, hub = edge(site)
    keys = [POD._replace(name=f"web-{n}") for n in range(12)]
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        go_on, commit, commits = asyncio.Event(), store.commit, []

        async def slow(work):
            commits.append([delta.key for delta in work.deltas])
            await go_on.wait()
            await commit(work)

        store.commit = slow
        for count, key in enumerate(keys, start=1):
            cloud.source.put("edge-1", key, b"{}")
            await until(lambda count=count: cloud.counters.frames["down", Lane.PODS] == count)
        await until(lambda: hub._link._to_apply.qsize() == len(keys) - 1)
        assert commits == [keys[:1]]
        go_on.set()
        await until(lambda: len(store.index) == len(keys))
        (link,) = cloud.hub._links
        await until(lambda: not link._session.lanes_sent)
        assert commits == [keys[:1], keys[1:]]
