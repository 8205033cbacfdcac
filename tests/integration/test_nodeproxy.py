"""The node proxy and a node behind a real gRPC stream, whose agent is a test's: rights, lies, floods, stuck streams."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
import uvloop
from prometheus_client import REGISTRY

from cloudcore.cloudhub.streams import StreamRefusedError
from corekit.errors import ConfigError
from corekit.pki import Authority
from edgecore.streams import StreamRefusedError as EdgeRefusal
from synccore.targets import Document, Exec, Logs, decode_target
from synccore.tunnels import MAX_STREAMS, WINDOW_BYTES
from tests.fakes.nodeproxy import APISERVER, Rig
from tests.fakes.spdy import SpdyClient, SpdyRefusedError

pytestmark = pytest.mark.timeout(60)

LOGS = "/containerLogs/default/web/app"
EXEC = "/exec/default/web/app?command=cat&input=1&output=1"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\nLocation: http://evil/\r\nX-Evil: 1\r\n\r\n"
)


class Agent:
    """What a node answers: by kind of target a coroutine that gets the accepted stream."""

    def __init__(self):
        self.targets, self.streams = [], []
        self.on_logs = self.on_exec = self.on_document = lambda stream: stream.write(b"hello\n")

    async def serve(self, text, accept):
        target = decode_target(text)
        self.targets.append(target)
        kinds = {Logs: self.on_logs, Exec: self.on_exec, Document: self.on_document}
        stream = accept()
        self.streams.append(stream)
        await kinds[type(target)](stream)


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
async def rig(tmp_path, agent):
    rig = Rig(tmp_path, handler=agent.serve)
    async with rig.running():
        yield rig


async def echo(stream):
    await stream.write(SWITCHED)
    while chunk := await stream.read():
        await stream.write(chunk)


async def forever(_stream):
    await asyncio.Event().wait()


async def test_an_upgraded_connection_is_a_pipe_both_ways_and_only_what_belongs_to_it_passes(
    rig, agent
):
    agent.on_exec = echo
    tls = rig.tls(*APISERVER)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=tls)
    writer.write(f"POST {EXEC} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n".encode())
    writer.write(b"Upgrade: SPDY/3.1\r\nAuthorization: Bearer secret\r\n\r\nearly")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"101" in head.split(b"\r\n")[0]
    assert b"evil" not in head.lower()
    assert await reader.readexactly(5) == b"early"
    big = bytes(range(256)) * 8192  # eight windows
    writing = asyncio.ensure_future(_write(writer, big))
    assert await reader.readexactly(len(big)) == big
    await writing
    writer.transport.abort()
    (target,) = agent.targets
    assert dict(target.upgrade.headers) == {"connection": "Upgrade", "upgrade": "SPDY/3.1"}


async def _write(writer, content):
    writer.write(content)
    await writer.drain()


def test_all_of_it_works_on_the_daemons_own_loop(tmp_path, agent):
    """uvloop's transports and protocols of TLS are not asyncio's."""

    async def story():
        agent.on_exec = echo
        rig = Rig(tmp_path, handler=agent.serve)
        async with rig.running():
            assert await rig.get(LOGS) == (200, "hello\n")
            assert (await rig.get("/pods", rig.tls()))[0] == 401
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", rig.port, ssl=rig.tls(*APISERVER)
            )
            writer.write(f"POST {EXEC} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n".encode())
            writer.write(b"Upgrade: SPDY/3.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            big = bytes(4 * WINDOW_BYTES)
            writing = asyncio.ensure_future(_write(writer, big))
            assert await reader.readexactly(len(big)) == big
            await writing
            writer.transport.abort()
            await rig.until(lambda: not _streams(rig))
            foreign = Authority(tmp_path / "foreign", "foreign")
            tls = rig.tls("joe", "system:masters", foreign)
            with pytest.raises((aiohttp.ClientError, OSError)):
                await rig.get("/pods", tls)
            assert await rig.get(LOGS) == (200, "hello\n")

    uvloop.run(story())


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: https://evil/\r\nContent-Length: 0\r\n\r\n",
            502,
            id="redirect",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502, id="no-switch"),
        pytest.param(SWITCHED.replace(b"SPDY/3.1", b"websocket"), 502, id="another-protocol"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", 502, id="no-http"),
        pytest.param(b"HTTP/1.1 101 x\r\nX: " + b"x" * 100_000, 502, id="endless-head"),
        pytest.param(b"", 502, id="nothing"),
        pytest.param(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 502, id="server-error"),
        pytest.param(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nno v5!", 403, id="refused"
        ),
    ],
)
async def test_whatever_a_node_answers_to_an_upgrade_it_leads_nowhere_else(
    rig, agent, answer, status
):
    async def lie(stream):
        await stream.write(answer)

    agent.on_exec = lie
    with pytest.raises(SpdyRefusedError) as caught:
        await rig.dial(EXEC)
    assert caught.value.status == status
    assert "location" not in caught.value.head.lower()
    assert await rig.get(LOGS) == (200, "hello\n")  # and the node is still served


async def test_a_switch_where_none_was_asked_for_is_only_text(rig, agent):
    agent.on_logs = lambda stream: stream.write(SWITCHED)
    status, text = await rig.get(LOGS)
    assert (status, text) == (200, SWITCHED.decode().replace("\r\n", "\r\n"))


async def test_each_request_of_a_connection_is_somebody_s_own(rig):
    rig.reviews.tokens["other"] = {"username": "joe"}
    rig.reviews.allowed.add(("jane", "get", "proxy"))
    async with rig.session(rig.tls()) as session:
        for token, status in (("good", 200), ("other", 403), ("bad", 401), ("good", 200)):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.get("/pods", headers=headers) as reply:
                assert reply.status == status
                text = await reply.text()
        assert text == "hello\n"


async def test_anonymous_and_foreign_certificates_get_nothing(rig, agent, tmp_path):
    assert await rig.get("/pods", rig.tls()) == (401, "Unauthorized\n")
    assert (await rig.get("/healthz", rig.tls()))[0] == 401
    foreign = rig.tls("joe", "system:masters", Authority(tmp_path / "foreign", "foreign"))
    with pytest.raises((aiohttp.ClientError, ssl.SSLError, OSError)):
        await rig.get("/pods", foreign)
    assert agent.targets == []


async def test_a_node_may_not_read_another_node_s_pods(rig, agent):
    status, text = await rig.get(LOGS, rig.tls("system:node:edge-2", "system:nodes"))
    assert status == 403
    assert "user=system:node:edge-2, verb=get, resource=nodes, subresource=proxy" in text
    assert agent.targets == []


async def test_reading_rights_run_no_command_by_any_method(rig, agent):
    rig.reviews.allowed.add(("jane", "get", "proxy"))
    for method in ("GET", "POST"):
        with pytest.raises(SpdyRefusedError) as caught:
            await SpdyClient.dial(
                "127.0.0.1",
                rig.port,
                EXEC,
                tls=rig.tls(),
                method=method,
                headers=[("Authorization", "Bearer good")],
            )
        assert caught.value.status == 403
    assert agent.targets == []


async def test_a_cluster_that_cannot_be_asked_means_no(rig, agent):
    rig.reviews.down = True
    assert (await rig.get("/pods"))[0] == 500
    assert agent.targets == []


async def test_refusals_of_the_agent_have_kubelet_s_statuses(tmp_path):
    async def refuse(text, _accept):
        raise EdgeRefusal(decode_target(text).container, "as scripted")

    rig = Rig(tmp_path, handler=refuse)
    async with rig.running():
        for code, status in (
            ("BadRequest", 400),
            ("NotFound", 404),
            ("TooMany", 429),
            ("Unavailable", 503),
            ("Failed", 502),
            ("Redirect", 502),
        ):
            path = f"/containerLogs/default/web/{code}"
            assert await rig.get(path) == (status, "as scripted\n")


async def test_a_stuck_stream_holds_a_window_and_delays_nothing(rig, agent):
    written = 0

    async def endless(stream):
        nonlocal written
        while True:
            await stream.write(bytes(10_000))
            written += 10_000

    agent.on_logs = endless
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=rig.tls(*APISERVER))
    writer.write(f"GET {LOGS}?follow=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    before = -1
    while before != written:  # buffers of sockets fill first; then it stands
        before = written
        await asyncio.sleep(0.5)
    assert written < 32 * WINDOW_BYTES
    for _ in range(20):  # while it stands, others and the node's own reports go their way
        assert await rig.get("/pods") == (200, "hello\n")
    assert rig.edge_hub.connected
    writer.transport.abort()
    await rig.until(lambda: not rig.hub._registry.stream("edge-1")._streams._streams)


async def test_a_hundred_streams_live_side_by_side_and_beyond_128_there_is_a_refusal(rig, agent):
    agent.on_exec = echo
    clients = await asyncio.gather(*(rig.dial(EXEC) for _ in range(100)))
    for client in clients:
        await client.close()
    agent.on_exec = forever
    await rig.until(lambda: len(_streams(rig)) == 0)
    waiting = [
        asyncio.ensure_future(rig.hub.open_stream("edge-1", _text())) for _ in range(MAX_STREAMS)
    ]
    opened = await asyncio.gather(*waiting)
    with pytest.raises(StreamRefusedError, match="128 streams of this node are open"):
        await rig.hub.open_stream("edge-1", _text())
    for stream in opened:
        stream.close()
    assert await rig.get("/pods") == (200, "hello\n")


def _text():
    upgrade = '{"method":"POST","headers":[["upgrade","SPDY/3.1"]]}'
    return (
        '{"kind":"exec","namespace":"default","pod":"web","container":"app",'
        f'"command":["cat"],"upgrade":{upgrade}}}'
    )


def _streams(rig):
    return rig.hub._registry.stream("edge-1")._streams._streams


async def test_a_client_that_hangs_up_ends_what_the_node_does_for_it(rig, agent):
    ended = asyncio.Event()

    async def follow(stream):
        await stream.write(b"one\n")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    agent.on_logs = follow
    async with rig.client() as session:
        async with session.get(f"{LOGS}?follow=true") as reply:
            assert await reply.content.readline() == b"one\n"
    await ended.wait()


async def test_a_lost_link_breaks_off_what_runs_and_the_port_refuses(rig, agent):
    agent.on_logs = _one_line_and_wait
    port = rig.port
    async with rig.client() as session:
        async with session.get(f"{LOGS}?follow=true") as reply:
            assert await reply.content.readline() == b"one\n"
            rig.hub._registry.stream("edge-1").end("DRAINING", "test", 60.0)
            with pytest.raises(aiohttp.ClientPayloadError):  # not an end that looks like one
                await reply.content.read()
    await rig.until(lambda: rig.proxy.endpoint_of("edge-1") is None)
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.transport.abort()
        await asyncio.sleep(0.01)
    raise AssertionError("the port of a node that left still answers")


async def _one_line_and_wait(stream):
    await stream.write(b"one\n")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01garbage",
        b"GET / HTTP/1.1\r\n" + b"x" * 200_000,
        b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_garbage_ends_its_connection_and_nothing_else(rig, garbage):
    _, plain = await asyncio.open_connection("127.0.0.1", rig.port)
    plain.write(garbage)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=rig.tls(*APISERVER))
    writer.write(garbage)
    writer.write_eof() if writer.can_write_eof() else None
    assert (await reader.read(1 << 20))[:12] in (
        b"",
        b"HTTP/1.1 400",
        b"HTTP/1.1 404",
        b"HTTP/1.1 431",
    )
    plain.transport.abort()
    writer.transport.abort()
    assert (await rig.get("/pods"))[0] == 200


async def test_what_a_certificate_or_a_range_cannot_be_is_one_clear_line(tmp_path):
    from cloudcore.nodeproxy.server import NodeProxy
    from cloudcore.settings import NodeProxySettings
    from tests.fakes.nodeproxy import FakeReviews

    for wrong in (
        {"port_range": "1"},
        {"port_range": "5-4"},
        {"advertise_address": "cloud.example"},
    ):
        with pytest.raises(ConfigError) as caught:
            NodeProxySettings(**wrong)
        assert next(iter(wrong)) in str(caught.value)
    settings = NodeProxySettings(advertise_address="127.0.0.1", cert_file=str(tmp_path / "no.crt"))
    with pytest.raises(ConfigError, match=r"nodeproxy.cert_file: one of .*no.crt"):
        await NodeProxy(settings, FakeReviews()).__aenter__()


def counted(**labels):
    return REGISTRY.get_sample_value("armadillo_nodeproxy_requests_total", labels) or 0


async def test_requests_streams_and_bytes_are_counted_by_few_words(rig, agent):
    agent.on_exec = echo
    named = [("containerLogs", "200"), ("exec", "101"), ("pods", "401"), ("other", "404")]
    before = [counted(what=what, code=code) for what, code in named]
    up = REGISTRY.get_sample_value("armadillo_nodeproxy_bytes_total", {"direction": "up"})
    assert (await rig.get(LOGS))[0] == 200
    assert (await rig.get("/pods", rig.tls()))[0] == 401
    assert (await rig.get("/nonsense/of/somebody"))[0] == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=rig.tls(*APISERVER))
    writer.write(f"POST {EXEC} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n".encode())
    writer.write(b"Upgrade: SPDY/3.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    assert REGISTRY.get_sample_value("armadillo_nodeproxy_streams") == 1
    writer.transport.abort()
    await rig.until(lambda: REGISTRY.get_sample_value("armadillo_nodeproxy_streams") == 0)
    assert [counted(what=what, code=code) for what, code in named] == [n + 1 for n in before]
    now = REGISTRY.get_sample_value("armadillo_nodeproxy_bytes_total", {"direction": "up"})
    assert now >= (up or 0) + len("hello\n")
