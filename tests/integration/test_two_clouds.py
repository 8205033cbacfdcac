"""A node that goes from one cloudcore to another which is a moment behind is not taken back to its past."""

from __future__ import annotations

import pytest

from synccore.messages import ObjectKey
from tests.fakes.cloud import FakeSource
from tests.integration.test_sync_stream import POD, Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(30)

NEW = ObjectKey("Pod", "default", "begun-since")


@pytest.fixture
async def site(tmp_path):
    return Site(tmp_path)


def source_at(horizon, **bodies):
    source = FakeSource("edge-1")
    source.newest = horizon
    for name, body in bodies.items():
        source.put("edge-1", ObjectKey("Pod", "default", name.replace("_", "-")), body)
    return source


async def stored(store):
    return {pod.key.name: pod.body for pod in await store.list("Pod")}


@pytest.mark.parametrize("restarted", [False, True], ids=["same agent", "agent restarted"])
async def test_a_cloudcore_that_is_behind_takes_nothing_back(site, restarted, caplog):
    caplog.set_level("DEBUG")
    store, hub = edge(site)
    now = {"web": b'{"v":2}', "begun_since": b"{}"}
    first = Cloud(site, source_at(20, **now))
    behind = Cloud(site, source_at(19, web=b'{"v":1}'))

    async def meet_the_one_behind(store):
        async with running(behind.hub):
            await until(lambda: "NOT_READY" in caplog.text)
            assert not behind.counters.joins
            assert await stored(store) == {"web": b'{"v":2}', "begun-since": b"{}"}
            # It hears of the same changes a moment later, and nothing has to move.
            behind.source.put("edge-1", POD, b'{"v":2}')
            behind.source.put("edge-1", NEW, b"{}")
            behind.source.newest = 20
            await until(lambda: behind.counters.joins)
            assert behind.counters.joins == [True]

    async with running(store, hub):
        async with running(first.hub):
            await until(lambda: len(store.index) == 2)
        if not restarted:
            await meet_the_one_behind(store)
    if restarted:
        store, hub = edge(site)
        async with running(store, hub):
            await meet_the_one_behind(store)


async def test_a_cluster_whose_history_began_again_is_believed(site):
    store, hub = edge(site)
    first, other = (
        Cloud(site, source_at(5000, web=b'{"v":2}')),
        Cloud(site, source_at(7, web=b"{}")),
    )
    other.source.ready = lambda node, horizon=0: True  # it has waited for as long as it waits
    async with running(store, hub):
        async with running(first.hub):
            await until(lambda: len(store.index) == 1)
        async with running(other.hub):
            await until(
                lambda: store.index.version(POD) == other.source.indexes["edge-1"].version(POD)
            )
        # From now on it is that cluster's horizon that counts.
        other.source.ready = FakeSource.ready.__get__(other.source)
        again = Cloud(site, other.source)
        async with running(again.hub):
            await until(lambda: again.counters.joins)
