"""The stream with its real parts: gRPC with mutual TLS on loopback, and the edge's real SQLite file."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import socket
from contextlib import asynccontextmanager, contextmanager

import pytest

from cloudcore.cloudhub.server import CloudHub
from cloudcore.settings import HubSettings as CloudHubSettings
from corekit.errors import ConfigError
from corekit.lifecycle import run_components
from corekit.pki import Authority, KeyPair
from edgecore.edgehub.client import EdgeHub
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from edgecore.settings import HubSettings as EdgeHubSettings
from synccore.messages import Lane, ObjectKey
from tests.fakes.cloud import FakeCounters, FakeSink, FakeSource

pytestmark = pytest.mark.timeout(20)

POD = ObjectKey("Pod", "default", "web")
LAMP = ObjectKey("Device", "default", "lamp-01")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """Certificates and settings of one cloud and its nodes, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder / "pki", "test")
        self.port = free_port()
        pair = self._issue("cloudcore", "cloudcore", hosts=("127.0.0.1",))
        self.cloud = CloudHubSettings(
            address=f"127.0.0.1:{self.port}",
            cert_file=str(pair.cert_file),
            key_file=str(pair.key_file),
            client_ca_file=str(self.authority.pair.cert_file),
            heartbeat_s=0.5,
        )

    def _issue(self, name, common_name, authority=None, hosts=()):
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return (authority or self.authority).issue(pair, common_name, hosts=hosts)

    def edge(self, name, *, authority=None, ca_file=None):
        pair = self._issue(f"node-{name}", f"system:node:{name}", authority)
        return EdgeHubSettings(
            server=f"127.0.0.1:{self.port}",
            ca_file=str(ca_file or self.authority.pair.cert_file),
            cert_file=str(pair.cert_file),
            key_file=str(pair.key_file),
            backoff_min_s=0.05,
            backoff_max_s=0.2,
        )


class Entered:
    """The last component: tells that all before it have been entered."""

    name = "entered"

    def __init__(self):
        self.event = asyncio.Event()

    async def __aenter__(self):
        self.event.set()
        return self

    async def __aexit__(self, *exc_info):
        pass

    async def run(self):
        await asyncio.Event().wait()


@asynccontextmanager
async def running(*components):
    """Run components until the block ends."""
    stop, entered = asyncio.Event(), Entered()
    task = asyncio.create_task(run_components([*components, entered], stop))
    try:
        await entered.event.wait()
        yield
        assert not task.done(), task.exception()
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def until(predicate):
    """Wait until `predicate()` holds; pytest's timeout is the deadline."""
    while not predicate():
        await asyncio.sleep(0.01)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


class Cloud:
    """A cloudhub between a fake source and a fake sink."""

    def __init__(self, site, source=None):
        self.source, self.sink = source or FakeSource("edge-1"), FakeSink()
        self.counters = FakeCounters()
        self.hub = CloudHub(site.cloud, source=self.source, sink=self.sink, counters=self.counters)


def edge(site, name="edge-1", database="edge.db", **settings):
    store = MetaStore(site.folder / database)
    return store, EdgeHub(site.edge(name, **settings), name, store)


async def test_objects_reach_the_edge_database_and_reports_reach_the_sink(site):
    cloud = Cloud(site)
    cloud.source.put("edge-1", POD, b'{"v":1}')
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: len(store.index) == 1)
        cloud.source.put("edge-1", POD, b'{"v":2}')
        cloud.source.put("edge-1", LAMP, b"{}")
        await until(lambda: store.index.digest() == cloud.source.indexes["edge-1"].digest())
        assert (await store.get(POD)).body == b'{"v":2}'
        await store.commit(Commit(reports=[Report(POD, "u", b'{"status":{}}', Lane.PODS)]))
        await cloud.sink.until(lambda: cloud.sink.newest)
        while await store.unsent(Lane.PODS, 0, 10, 1000):  # the row goes once it is acknowledged
            await asyncio.sleep(0.01)
        cloud.source.drop("edge-1", POD)
        await until(lambda: len(store.index) == 1)


async def test_after_a_restart_of_the_cloud_the_digest_matches_and_nothing_is_sent(site):
    first = Cloud(site)
    for number in range(50):
        first.source.put("edge-1", POD._replace(name=f"web-{number}"), b"{}")
    store, hub = edge(site)
    async with running(store, hub):
        async with running(first.hub):
            await until(lambda: len(store.index) == 50)
        second = Cloud(site, first.source)
        async with running(second.hub):
            await until(lambda: second.counters.joins)
            await until(lambda: hub.connected)
            assert second.counters.joins == [True]
            assert not second.counters.sent_objects
    assert first.counters.sent_objects == {"Pod": 50}


async def test_what_changed_while_the_edge_was_away_and_only_that_is_sent(site):
    cloud = Cloud(site)
    for number in range(50):
        cloud.source.put("edge-1", POD._replace(name=f"web-{number}"), b"{}")
    store, hub = edge(site)
    async with running(cloud.hub):
        async with running(store, hub):
            await until(lambda: len(store.index) == 50)
        await until(lambda: not cloud.hub._links)  # a stream that still seems to live is sent to
        cloud.source.put("edge-1", POD._replace(name="web-7"), b'{"new":1}')
        cloud.source.drop("edge-1", POD._replace(name="web-8"))
        before = cloud.counters.sent_objects.total()
        store, hub = edge(site)
        async with running(store, hub):
            await until(lambda: store.index.digest() == cloud.source.indexes["edge-1"].digest())
        assert cloud.counters.sent_objects.total() - before == 2  # one upsert, one forget


async def test_reports_made_offline_arrive_newest_only_and_survive_a_restart(site):
    store, hub = edge(site)
    async with running(store, hub):
        for number in range(100):
            body = b'{"n":%d}' % number
            await store.commit(Commit(reports=[Report(LAMP, "u", body, Lane.TWINS)]))
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await cloud.sink.until(lambda: cloud.sink.newest)
    assert [(node, d.body) for node, d in cloud.sink.writes] == [("edge-1", b'{"n":99}')]


async def test_a_report_the_sink_never_finished_is_sent_again_after_the_break(site):
    cloud = Cloud(site)
    cloud.sink.open.clear()
    store, hub = edge(site)
    async with running(store, hub):
        await store.commit(Commit(reports=[Report(LAMP, "u", b"1", Lane.TWINS)]))
        async with running(cloud.hub):
            await until(lambda: hub.connected)
            await asyncio.sleep(0.2)  # the report is on its way, and will not be acknowledged
        assert await store.unsent(Lane.TWINS, 0, 10, 1000)
        again = Cloud(site)
        async with running(again.hub):
            await again.sink.until(lambda: again.sink.newest)


async def test_a_second_machine_under_one_name_is_refused_by_name_and_takes_over_when_the_first_leaves(
    site, caplog
):
    cloud = Cloud(site)
    first_store, first = edge(site)
    second_store, second = edge(site, database="clone.db")
    async with running(cloud.hub):
        async with running(first_store, first):
            await until(lambda: first.connected)
            async with running(second_store, second):
                await until(lambda: "NODE_NAME_IN_USE" in caplog.text)
                assert "node name 'edge-1' is in use" in caplog.text
                assert first.connected
                assert not second.connected
        async with running(second_store, second):
            await until(lambda: second.connected)


async def test_the_same_machine_coming_back_ends_its_old_stream(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store):
        other = EdgeHub(site.edge("edge-1"), "edge-1", store)
        async with running(hub):
            await until(lambda: hub.connected)
            async with running(other):
                await until(lambda: len(cloud.counters.joins) >= 2)


async def test_a_volatile_report_is_sent_when_connected_and_forgotten_otherwise(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    lease = Report(ObjectKey("Lease", "kube-node-lease", "edge-1"), "", b"{}", Lane.CONTROL)
    async with running(store, hub):
        hub.offer(lease)
        async with running(cloud.hub):
            await until(lambda: hub.connected)
            assert not cloud.sink.writes
            hub.offer(lease)
            await cloud.sink.until(lambda: cloud.sink.writes)


async def test_a_node_that_was_given_up_is_asked_to_report_everything(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    asked = asyncio.Event()
    hub.on_report_all(asked.set)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        cloud.source.give_up()
        await asked.wait()


async def test_a_cloud_that_is_still_listing_is_waited_for(site):
    cloud = Cloud(site)
    cloud.source.synced = False
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await asyncio.sleep(0.3)
        assert not hub.connected
        cloud.source.synced = True
        await until(lambda: hub.connected)


async def test_a_certificate_of_another_authority_gets_no_stream_either_way(site):
    stranger = Authority(site.folder / "stranger", "stranger")
    cloud = Cloud(site)
    mine, imposter = edge(site, "edge-9", authority=stranger)
    store, deceived = edge(site, database="b.db", ca_file=stranger.pair.cert_file)
    async with running(cloud.hub, mine, imposter, store, deceived):
        await asyncio.sleep(0.5)
        assert not imposter.connected
        assert not deceived.connected
    assert not cloud.counters.joins


async def test_a_certificate_does_not_open_another_nodes_stream(site, caplog):
    cloud = Cloud(site)
    store = MetaStore(site.folder / "edge.db")
    hub = EdgeHub(site.edge("edge-2"), "edge-1", store)
    async with running(cloud.hub, store, hub):
        await until(lambda: "FORBIDDEN" in caplog.text)
        assert not hub.connected


async def test_a_port_that_is_taken_is_named(site):
    with socket.create_server(("127.0.0.1", site.port)):
        with pytest.raises(ConfigError, match=f"127.0.0.1:{site.port} cannot be bound"):
            async with Cloud(site).hub:
                pass


async def test_a_missing_certificate_file_is_named(site):
    settings = dataclasses.replace(site.cloud, key_file="/nowhere/cloudcore.key")
    with pytest.raises(ConfigError, match="/nowhere/cloudcore.key: No such file"):
        async with CloudHub(
            settings, source=FakeSource(), sink=FakeSink(), counters=FakeCounters()
        ):
            pass


async def test_a_restored_copy_is_recognised_and_never_overwrites_what_is_newer(site, caplog):
    cloud = Cloud(site)
    cloud.source.put("edge-1", POD, b'{"v":1}')
    store, hub = edge(site)
    async with running(cloud.hub):
        async with running(store, hub):
            await until(lambda: hub.connected)
            await store.commit(Commit(reports=[Report(LAMP, "u", b"old", Lane.TWINS)]))
            await cloud.sink.until(lambda: cloud.sink.newest)
            await until(lambda: len(store.index) == 1)
        backup = {file.name: file.read_bytes() for file in site.folder.glob("edge.db*")}
        store, hub = edge(site)
        async with running(store, hub):
            await store.commit(Commit(reports=[Report(LAMP, "u", b"new", Lane.TWINS)]))
            await cloud.sink.until(lambda: cloud.sink.newest["edge-1", LAMP].body == b"new")
        for file in site.folder.glob("edge.db*"):
            file.unlink()
        for name, content in backup.items():
            (site.folder / name).write_bytes(content)
        cloud.source.put("edge-1", POD, b'{"v":2}')
        store, hub = edge(site)
        asked = asyncio.Event()
        hub.on_report_all(asked.set)
        async with running(store):
            # Before it ever connects it wants to say something old, and a lot that is new.
            await store.commit(Commit(reports=[Report(LAMP, "u", b"older", Lane.TWINS)] * 20))
            async with running(hub):
                await until(lambda: hub.connected)
                await asked.wait()
                assert "copy from before" in caplog.text
                assert cloud.sink.newest["edge-1", LAMP].body == b"new"
                await until(lambda: store.index.digest() == cloud.source.indexes["edge-1"].digest())
                await store.commit(Commit(reports=[Report(LAMP, "u", b"newest", Lane.TWINS)]))
                await cloud.sink.until(lambda: cloud.sink.newest["edge-1", LAMP].body == b"newest")


async def test_of_two_machines_with_copies_of_one_disk_one_waits_outside(site, caplog):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub):
        async with running(store, hub):
            await until(lambda: hub.connected)
        (site.folder / "copy.db").write_bytes((site.folder / "edge.db").read_bytes())
        store, hub = edge(site)
        other_store, other = edge(site, database="copy.db")
        async with running(store, hub):
            await until(lambda: hub.connected)
            async with running(other_store, other):
                await until(lambda: "a copy of the same edgecore" in caplog.text)
                assert hub.connected
                assert not other.connected


async def test_a_database_damaged_while_connected_comes_back_from_the_cloud(site):
    cloud = Cloud(site)
    for number in range(20):
        cloud.source.put(
            "edge-1", POD._replace(name=f"web-{number}"), b'{"x":"%s"}' % (b"%d" % number * 50)
        )
    store, hub = edge(site)
    path = site.folder / "edge.db"
    async with running(cloud.hub, store, hub):
        await until(lambda: len(store.index) == 20)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        feed = store.feed("Pod")
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
        cloud.source.drop("edge-1", POD._replace(name="web-7"))
        await store.list("Pod")  # finds it; the pages that a write needs may still be in memory
        await until(lambda: store.index.digest() == cloud.source.indexes["edge-1"].digest())
        assert len(await store.list("Pod")) == 19
        gone = set()
        while POD._replace(name="web-7") not in gone:
            gone |= await feed.changed()


async def test_a_full_disk_stops_acknowledgements_but_not_the_session_or_the_lease(site):
    cloud = Cloud(site)
    store, hub = edge(site)
    lease = Report(ObjectKey("Lease", "kube-node-lease", "edge-1"), "", b"{}", Lane.CONTROL)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        with no_file_larger_than(128 << 10):
            cloud.source.put("edge-1", POD, b'{"v":"' + b"x" * 300_000 + b'"}')
            await asyncio.sleep(1.2)  # more than two heartbeats
            assert len(store.index) == 0
            assert hub.connected
            hub.offer(lease)
            await cloud.sink.until(lambda: cloud.sink.writes)
        await until(lambda: len(store.index) == 1)
        assert cloud.counters.joins == [True]  # one session through it all


@contextmanager
def no_file_larger_than(limit_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_the_hub_takes_as_many_descriptors_as_the_system_allows(site):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        async with running(Cloud(site).hub):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert soft == hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
