from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from cloudcore import metrics
from cloudcore.metrics import MetricsServer, PrometheusCounters
from cloudcore.settings import HubSettings, MetricsSettings
from corekit.errors import ConfigError
from corekit.pki import Authority, KeyPair
from synccore.messages import Lane


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "test CA")


@pytest.fixture
def hub(authority, tmp_path):
    pair = KeyPair(tmp_path / "hub.crt", tmp_path / "hub.key")
    authority.issue(pair, "cloudcore", hosts=("127.0.0.1",))
    ca = str(authority.pair.cert_file)
    return HubSettings(
        cert_file=str(pair.cert_file), key_file=str(pair.key_file), client_ca_file=ca
    )


def client_tls(authority, tmp_path, *, with_certificate=True, name="prometheus", groups=()):
    context = ssl.create_default_context(cafile=str(authority.pair.cert_file))
    if with_certificate:
        pair = KeyPair(tmp_path / "scraper.crt", tmp_path / "scraper.key")
        authority.issue(pair, name, organizations=groups)
        context.load_cert_chain(pair.cert_file, pair.key_file)
    return context


async def scrape(server, tls):
    async with aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{server.port}/metrics"
        async with session.get(url, ssl=tls) as reply:
            return await reply.text()


async def test_counters_are_served_to_a_client_with_a_certificate(hub, authority, tmp_path):
    metrics.sent_objects.labels("Pod", "UPSERT").inc()
    async with MetricsServer(MetricsSettings("127.0.0.1:0"), hub) as server:
        text = await scrape(server, client_tls(authority, tmp_path))
    assert 'armadillo_objects_sent_total{kind="Pod",op="UPSERT"}' in text


async def test_the_sync_path_is_counted_by_lane_and_direction(hub, authority, tmp_path):
    counters = PrometheusCounters()
    counters.moved("down", Lane.PODS, 2, 5, 300)
    counters.moved("up", Lane.CONTROL, 1, 1, 20)
    counters.joined(in_sync=False)
    counters.ended("BAD_FRAME")
    counters.set_aside("Pod")
    counters.set_aside("a kind that a hostile node made up")
    counters.gauge(3, 7, {("down", Lane.PODS): 1.5})
    async with MetricsServer(MetricsSettings("127.0.0.1:0"), hub) as server:
        text = await scrape(server, client_tls(authority, tmp_path))
    for line in (
        'armadillo_sync_frames_total{direction="down",lane="pods"} 2.0',
        'armadillo_sync_deltas_total{direction="down",lane="pods"} 5.0',
        'armadillo_sync_bytes_total{direction="down",lane="pods"} 300.0',
        'armadillo_sync_deltas_total{direction="up",lane="control"} 1.0',
        'armadillo_sync_lag_seconds{direction="down",lane="pods"} 1.5',
        "armadillo_sessions 3.0",
        "armadillo_joins_waiting 7.0",
        'armadillo_joins_total{digest="resync"} 1.0',
        'armadillo_session_ends_total{code="BAD_FRAME"} 1.0',
        'armadillo_records_set_aside_total{kind="Pod"} 1.0',
        'armadillo_records_set_aside_total{kind="other"} 1.0',
    ):
        assert line in text


async def test_a_client_without_a_certificate_is_refused(hub, authority, tmp_path):
    async with MetricsServer(MetricsSettings("127.0.0.1:0"), hub) as server:
        with pytest.raises(aiohttp.ClientError):
            await scrape(server, client_tls(authority, tmp_path, with_certificate=False))


async def test_a_silent_peer_does_not_block_the_others(hub, authority, tmp_path):
    async with MetricsServer(MetricsSettings("127.0.0.1:0"), hub) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await scrape(server, client_tls(authority, tmp_path))
        writer.close()


async def test_an_empty_address_serves_nothing(hub):
    async with MetricsServer(MetricsSettings(), hub) as server:
        assert server._runner is None


@pytest.mark.parametrize("address", ["9100", "host:", "127.0.0.1:x"])
async def test_a_wrong_address_is_named(hub, address):
    with pytest.raises(ConfigError, match=r"metrics\.address"):
        async with MetricsServer(MetricsSettings(address), hub):
            pass


@pytest.mark.parametrize(
    ("name", "groups"), [("system:node:edge-1", ("system:nodes",)), ("system:node:edge-1", ())]
)
async def test_a_node_reads_nothing_of_the_others(hub, authority, tmp_path, name, groups):
    async with MetricsServer(MetricsSettings("127.0.0.1:0"), hub) as server:
        text = await scrape(server, client_tls(authority, tmp_path, name=name, groups=groups))
    assert text == "certificates of nodes open the hub's port only\n"
