"""A gateway that was stolen: its owner throws it out by one line of a ConfigMap, and its successor comes in."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from cloudcore.cloudhub.server import CloudHub
from cloudcore.edgecontroller.controller import EdgeController
from cloudcore.edgecontroller.revocations import REVOKED_NODES, issued_s
from cloudcore.kube.client import KubeClient
from cloudcore.kube.informer import Informers
from cloudcore.settings import KubeSettings
from corekit.timestamps import rfc3339
from tests.fakes.cloud import FakeCounters, FakeSink
from tests.fakes.kubeapi import FakeKubeApi, Fault
from tests.integration.test_sync_stream import Site, edge, running, until

pytestmark = pytest.mark.timeout(60)

FAST = KubeSettings(backoff_min_s=0.01, backoff_max_s=0.05)


def revoke(api, **lines):
    _, namespace, name = REVOKED_NODES
    api.put("configmaps", {"metadata": {"name": name, "namespace": namespace}, "data": lines})


def later(site, seconds, name="edge-1"):
    """Return the time so long after the node's certificate was issued."""
    site.edge(name)
    return rfc3339(issued_s((site.folder / f"node-{name}.crt").read_bytes()) + seconds)


class Cloud:
    """cloudcore between a Kubernetes API and a sink; `controller.revocations` is the hub's gate."""

    def __init__(self, site, client):
        self.informers, self.counters = Informers(client, FAST), FakeCounters()
        self.controller = EdgeController(self.informers, client, FAST)
        self.hub = CloudHub(
            site.cloud,
            source=self.controller,
            sink=FakeSink(),
            counters=self.counters,
            gate=self.controller.revocations,
        )

    @property
    def components(self):
        return self.informers, self.controller, self.hub


@asynccontextmanager
async def cloud_of(site, api):
    async with KubeClient(api.endpoint(), timeout_s=2.0) as client:
        cloud = Cloud(site, client)
        async with running(*cloud.components):
            yield cloud


@pytest.fixture
async def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
async def api(tmp_path):
    async with FakeKubeApi(tmp_path / "api") as running_api:
        yield running_api


async def test_a_connected_node_is_thrown_out_and_stays_out_and_the_others_stay_in(site, api):
    store, stolen = edge(site)
    other_store, other = edge(site, "edge-2", "other.db")
    async with cloud_of(site, api) as cloud, running(store, stolen, other_store, other):
        await until(lambda: stolen.connected and other.connected)
        revoke(api, **{"edge-1": later(site, 60)})
        await until(lambda: not stolen.connected)
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        assert other.connected


async def test_a_revoked_node_is_refused_from_the_first_moment_of_a_cloudcore(site, api, caplog):
    revoke(api, **{"edge-1": later(site, 60)})
    store, stolen = edge(site)
    async with running(store, stolen), cloud_of(site, api) as cloud:
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 3)
        assert not cloud.counters.joins
    assert "PERMISSION_DENIED: certificates of node 'edge-1' issued before" in caplog.text


async def test_a_certificate_that_was_issued_later_is_let_in(site, api):
    revoke(api, **{"edge-1": later(site, -1)})
    store, successor = edge(site)
    async with cloud_of(site, api), running(store, successor):
        await until(lambda: successor.connected)


async def test_a_line_that_is_taken_back_lets_the_node_in_again(site, api):
    revoke(api, **{"edge-1": later(site, 60)})
    store, hub = edge(site)
    async with cloud_of(site, api) as cloud, running(store, hub):
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        _, namespace, name = REVOKED_NODES
        api.remove("configmaps", namespace, name)
        await until(lambda: hub.connected)


async def test_a_star_refuses_certificates_that_are_issued_later_too(site, api, caplog):
    revoke(api, **{"edge-1": "*"})
    store, stolen = edge(site)
    async with cloud_of(site, api) as cloud, running(store, stolen):
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        assert not cloud.counters.joins
    assert "certificates of node 'edge-1' of this node are revoked" not in caplog.text
    assert "all certificates of node 'edge-1' are revoked" in caplog.text
    assert "not a time" not in caplog.text


@pytest.mark.parametrize("text", ["", "stolen", "2026-11-26", "2026-11-26T12:00:00"])
async def test_a_time_that_is_none_refuses_every_certificate(site, api, text, caplog):
    revoke(api, **{"edge-1": text})
    store, stolen = edge(site)
    async with cloud_of(site, api) as cloud, running(store, stolen):
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        assert not cloud.counters.joins
    assert "edge-1: not a time" in caplog.text


async def test_nobody_comes_in_while_it_is_not_known_who_must_stay_out(site, api):
    revoke(api, **{"edge-1": later(site, 60)})
    for _ in range(5):
        api.faults.append(Fault("get", status=500, plural="configmaps"))
    store, stolen = edge(site)
    async with cloud_of(site, api) as cloud, running(store, stolen):
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        assert not cloud.counters.joins


async def test_what_was_known_goes_on_to_count_while_the_api_fails(site, api):
    revoke(api, **{"edge-1": later(site, 60)})
    store, stolen = edge(site)
    async with cloud_of(site, api) as cloud, running(store, stolen):
        await until(lambda: cloud.counters.ends["FORBIDDEN"] >= 1)
        api.faults.append(Fault("get", status=500, plural="configmaps"))
        revoke(api, **{"edge-1": later(site, 60), "edge-2": later(site, 60, "edge-2")})
        await until(lambda: len(api.sent("get", "configmaps")) >= 3)
        seen = cloud.counters.ends["FORBIDDEN"]
        await until(lambda: cloud.counters.ends["FORBIDDEN"] > seen)
        assert not cloud.counters.joins
