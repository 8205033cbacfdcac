from __future__ import annotations

import pytest

from kubecore.errors import ApiStatusError
from kubecore.objects import watching
from kubecore.objects.watching import WatchHub
from kubecore.storage.store import Store


def thing(name, namespace="default", **fields):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata, **fields}


@pytest.fixture
async def hub(tmp_path):
    async with Store(tmp_path / "k.db") as store:
        hub = WatchHub(store)
        hub.start()
        hub.store = store
        yield hub


async def seen(subscription):
    return [(c.type, c.entry.name) for c in await subscription.batch(1.0)]


async def test_a_watcher_resumes_from_the_history(hub):
    start = hub.store.revision
    await hub.store.put("things", thing("a"))
    await hub.store.put("others", thing("b"))
    await hub.store.remove("things", thing("a"))
    with hub.subscribe("things", "", after=start, selects=None) as subscription:
        assert await seen(subscription) == [("ADDED", "a"), ("DELETED", "a")]


async def test_leaving_the_selection_is_a_delete_and_entering_it_an_add(hub):
    def lit(obj):
        return obj.get("lit", False)

    with hub.subscribe("things", "", after=hub.store.revision, selects=lit) as subscription:
        for state in (False, True, True, False):
            await hub.store.put("things", thing("a", lit=state))
        changes = await subscription.batch(1.0)
    assert [c.type for c in changes] == ["ADDED", "MODIFIED", "DELETED"]
    last = changes[-1].entry
    assert last.parse()["lit"] is True, "the last state that was selected"
    assert last.revision == hub.store.revision


async def test_a_watcher_of_one_namespace_sees_only_it(hub):
    with hub.subscribe("things", "a", after=hub.store.revision, selects=None) as subscription:
        await hub.store.put("things", thing("x", "b"))
        await hub.store.put("things", thing("y", "a"))
        assert await seen(subscription) == [("ADDED", "y")]


@pytest.mark.parametrize("after", [0, 10**9])
async def test_a_revision_outside_the_history_is_gone(hub, after):
    with pytest.raises(ApiStatusError) as caught:
        hub.subscribe("things", "", after=after, selects=None)
    assert caught.value.status == 410


async def test_the_history_is_bounded_and_says_so(hub, monkeypatch):
    monkeypatch.setattr(watching, "MAX_HISTORY_EVENTS", 3)
    start = hub.store.revision
    for i in range(5):
        await hub.store.put("things", thing(f"t{i}"))
    with pytest.raises(ApiStatusError):
        hub.subscribe("things", "", after=start + 1, selects=None)
    with hub.subscribe("things", "", after=start + 2, selects=None) as subscription:
        assert len(await seen(subscription)) == 3


async def test_a_watcher_that_falls_behind_is_closed_and_others_go_on(hub, monkeypatch):
    monkeypatch.setattr(watching, "MAX_QUEUED_EVENTS", 2)
    aborted = []
    slow = hub.subscribe("things", "", after=hub.store.revision, selects=None)
    quick = hub.subscribe("things", "", after=hub.store.revision, selects=None)
    slow.on_overrun = lambda: aborted.append(True)
    with slow, quick:
        for i in range(4):
            await hub.store.put("things", thing(f"t{i}"))
            assert await seen(quick) == [("ADDED", f"t{i}")]
        with pytest.raises(ApiStatusError) as caught:
            await slow.batch(1.0)
    assert caught.value.status == 410
    assert aborted == [True]
