"""A peer with a good certificate that sends what is no message: its session ends with a code, and nothing else."""

from __future__ import annotations

import json
import random
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from synccore.messages import ObjectKey
from synccore.pb import sync_pb2 as pb
from tests.fakes.cloud import FakeSource
from tests.integration.test_sync_stream import Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(20)
METHOD = "/armadillo.sync.v1.Sync/Connect"


def hello_of(node):
    said = pb.Hello(protocol=1, node_name=node, database_id=b"d" * 16, boot_id="b")
    return pb.EdgeMessage(hello=said)


HELLO = hello_of("edge-1")
GARBAGE = {
    "no-protobuf": b"\xff\xff",
    "cut": HELLO.SerializeToString()[:-1],
    "no-utf8": b"\x3a\x04\x0a\x02\xff\xfe",  # Close.code, either way
    "nothing": b"",
    "later-version": b"\xa2\x06\x00",  # field 100
}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@asynccontextmanager
async def raw_edge(site, name):
    """The bytes of one stream, with a node's certificate."""
    settings = site.edge(name)
    credentials = grpc.ssl_channel_credentials(
        Path(settings.ca_file).read_bytes(),
        Path(settings.key_file).read_bytes(),
        Path(settings.cert_file).read_bytes(),
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(settings.server, credentials, options=options) as channel:
        call = channel.stream_stream(METHOD, lambda raw: raw, pb.CloudMessage.FromString)()
        yield call
        call.cancel()


class RawCloud(grpc.GenericRpcHandler):
    """Answers every Hello with the same bytes; remembers what came after."""

    def __init__(self, answer):
        self.answer, self.hellos, self.closes = answer, 0, []

    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(
            self.serve, pb.EdgeMessage.FromString, lambda raw: raw
        )

    async def serve(self, messages, context):
        async for message in messages:
            if message.HasField("hello"):
                self.hellos += 1
                await context.write(self.answer)
            elif message.HasField("close"):
                self.closes.append(message.close.code)
                return


@asynccontextmanager
async def serving(site, handler):
    pair = (Path(site.cloud.key_file).read_bytes(), Path(site.cloud.cert_file).read_bytes())
    credentials = grpc.ssl_server_credentials(
        [pair], Path(site.cloud.client_ca_file).read_bytes(), require_client_auth=True
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_secure_port(site.cloud.address, credentials)
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_a_node_that_sends_garbage_is_told_so_and_others_go_on(site, garbage):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        async with raw_edge(site, "edge-2") as call:
            await call.write(garbage)
            answer = await call.read()
            assert answer.close.code == "UNKNOWN_MESSAGE"
        assert hub.connected


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_a_cloud_that_sends_garbage_is_told_so_and_dialled_again(site, garbage):
    cloud = RawCloud(garbage)
    store, hub = edge(site)
    async with serving(site, cloud), running(store, hub):
        await until(lambda: cloud.hellos > 1 and cloud.closes)
        assert set(cloud.closes) == {"UNKNOWN_MESSAGE"}
        assert not hub.connected


@pytest.mark.timeout(120)
async def test_a_node_that_pings_and_does_not_read_costs_the_cloud_one_pong(site):
    cloud = Cloud(site, FakeSource("edge-1", "edge-9"))
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        async with raw_edge(site, "edge-9") as call:
            await call.write(hello_of("edge-9").SerializeToString())
            await until(lambda: len(cloud.counters.joins) == 2)
            (link,) = [link for link in cloud.hub._links if link.node == "edge-9"]
            most, number = 0, 0
            # Until the cloud's write waits for us: what it could say goes into buffers below, and then no further.
            while not link._session.has_outgoing or number < 20_000:
                number += 1
                await call.write(pb.EdgeMessage(ping=pb.Ping(number=number)).SerializeToString())
                most = max(most, len(link._session._outgoing))
            assert most <= 2  # its Welcome and its own first ping
            assert hub.connected
            while (answer := await call.read()).pong.number < number:
                assert not answer.HasField("close")


async def test_a_node_that_reads_nothing_and_falls_silent_is_cut_and_nothing_breaks(site, caplog):
    source = FakeSource("edge-1", "edge-9")
    for number in range(
        200
    ):  # more than connections hold, so that the cloud is in the middle of a write
        body = json.dumps({"v": random.Random(number).randbytes(20_000).hex()}).encode()
        source.put("edge-9", ObjectKey("Secret", "default", f"s{number}"), body)
    cloud = Cloud(site, source)
    store, hub = edge(site)
    inventory = pb.EdgeMessage(inventory=pb.Inventory(last=True))
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        async with raw_edge(site, "edge-9") as call:
            await call.write(hello_of("edge-9").SerializeToString())
            await call.write(inventory.SerializeToString())
            await until(lambda: cloud.counters.ends["SILENT"] == 1)
            assert hub.connected
            await until(lambda: len(cloud.hub._links) == 1)
    assert [r for r in caplog.records if r.name.startswith("grpc")] == []
