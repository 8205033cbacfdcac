"""What an ended link had is given back at once, at both ends: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from cloudcore.cloudhub.link import NodeLink
from edgecore.edgehub.link import Link
from tests.integration.test_sync_stream import Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def collecting_nothing():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive():
    """Descriptors, and links at either end."""
    links = [o for o in gc.get_objects() if isinstance(o, NodeLink | Link)]
    return len(list(Path("/proc/self/fd").iterdir())), len(links)


async def test_a_gateway_that_comes_back_all_day_holds_one_connection(site, collecting_nothing):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        descriptors, links = alive()
        for _ in range(5):
            next(iter(cloud.hub._links)).end("DRAINING", "another try", 0.0)
            await until(lambda: not hub.connected)
            await until(lambda: hub.in_sync)
        await until(lambda: alive() <= (descriptors, links))
