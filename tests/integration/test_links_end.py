"""What an ended link had is given back at once, at both ends: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

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


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_gateway_that_comes_back_all_day_holds_one_connection(site, collecting_nothing):
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.in_sync)
        before, ended = descriptors(), []
        for _ in range(5):
            ended += [weakref.ref(link) for link in (hub._link, *cloud.hub._links)]
            next(iter(cloud.hub._links)).end("DRAINING", "another try", 0.0)
            await until(lambda: not hub.connected)
            await until(lambda: hub.in_sync)
        await until(lambda: not any(link() for link in ended))
        await until(lambda: descriptors() <= before)
