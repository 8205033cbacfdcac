from __future__ import annotations

import asyncio
import json
import logging
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudcore.kube.client import KubeClient
from cloudcore.kube.informer import Informer, Informers
from cloudcore.kube.resources import CONFIG_MAPS, DEVICES, PODS
from cloudcore.settings import KubeSettings
from synccore.messages import ObjectKey
from tests.fakes.kubeapi import NESTED, FakeKubeApi, Fault, until

FAST = KubeSettings(page_size=2, backoff_min_s=0.001, backoff_max_s=0.01)


class Journal:
    """Writes down what a handler is told."""

    def __init__(self):
        self.lines = []

    def on_upsert(self, obj):
        self.lines.append(("upsert", obj.key.name))

    def on_delete(self, key):
        self.lines.append(("delete", key.name))

    def on_synced(self):
        self.lines.append(("synced", ""))


def pod(name, **spec):
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def state(informer: Informer):
    return {(o.key.namespace, o.key.name): o.resource_version for o in informer.items()}


class Following:
    """An informer that runs for the length of the block."""

    def __init__(self, client, resource=PODS, settings=FAST):
        self.informers = Informers(client, settings)
        self.informer = self.informers.of(resource)
        self.journal = Journal()
        self.informer.subscribe(self.journal)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.informers.run())
        return self

    async def __aexit__(self, *exc_info):
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task

    async def equals(self, api, plural="pods"):
        await until(lambda: state(self.informer) == api.state(plural))


def lists(api):
    """Return the requests for lists, without those that only ask for the newest version."""
    return [seen for seen in api.sent("list") if seen.query["limit"] != "1"]


async def test_lists_in_pages_then_follows_changes(api, client):
    for name in "abcde":
        api.put("pods", pod(name))
    async with Following(client) as following:
        await following.informer.wait_synced()
        assert following.journal.lines == [("upsert", n) for n in "abcde"] + [("synced", "")]
        assert len(api.sent("list")) == 3
        following.journal.lines.clear()
        api.put("pods", pod("a", nodeName="edge-1"))
        api.remove("pods", "default", "b")
        api.put("pods", pod("f"))
        await following.equals(api)
        expected = [("upsert", "a"), ("delete", "b"), ("upsert", "f")]
        assert following.journal.lines == expected
        watch = api.sent("watch")[0].query
        assert watch["allowWatchBookmarks"] == "true"
        assert 300 <= int(watch["timeoutSeconds"]) <= 600
        kept = following.informer.get(ObjectKey("Pod", "default", "a"))
        assert json.loads(kept.body)["spec"] == {"nodeName": "edge-1"}


async def test_a_relist_reports_only_what_differs(api, client):
    for name in "abc":
        api.put("pods", pod(name))
    api.faults += [Fault("watch", how="gone"), Fault("watch", 500)]
    async with Following(client) as following:
        await following.informer.wait_synced()
        following.journal.lines.clear()
        await until(lambda: len(api.sent("list")) >= 4)  # two pages, twice
        await until(lambda: api.open_watches)
        assert following.journal.lines == []


async def test_what_was_deleted_while_away_is_reported_as_deleted(api, client):
    for name in "abc":
        api.put("pods", pod(name))
    async with Following(client) as following:
        await following.informer.wait_synced()
        await until(lambda: api.open_watches)
        await api.__aexit__()
        following.journal.lines.clear()
        api.remove("pods", "default", "b")
        api.remove("pods", "default", "c")
        api.put("pods", pod("c"))
        api.compact()
        await api.__aenter__()
        await following.equals(api)
        assert following.journal.lines == [("delete", "c"), ("upsert", "c"), ("delete", "b")]


async def test_a_bookmark_moves_the_place_to_resume_from(api, client):
    api.put("pods", pod("a"))
    api.faults += [Fault("list", 500), Fault("watch", how="bookmark")]
    async with Following(client) as following:
        await following.informer.wait_synced()
        api.version += 50
        await until(lambda: len(api.sent("watch")) >= 2)
    first, second = (s.query["resourceVersion"] for s in api.sent("watch")[:2])
    assert int(second) >= int(first)
    assert len(lists(api)) == 2


async def test_only_objects_tell_how_far_the_cluster_has_come_for_everybody(api, client):
    made = api.put("pods", pod("a"))
    api.version += 50  # of kinds that nobody follows
    async with Following(client) as following:
        await following.informer.wait_synced()
        assert following.informers.history.newest >= int(made["metadata"]["resourceVersion"]) + 50
        assert following.informers.history.newest_object == int(made["metadata"]["resourceVersion"])
        changed = api.put("pods", pod("a", nodeName="n"))
        version = int(changed["metadata"]["resourceVersion"])
        await until(lambda: following.informers.history.newest_object == version)
        following.informers.history.restored("3")
        assert following.informers.history.newest_object == 3


async def test_a_continue_token_that_expired_starts_the_list_again(api, client):
    for name in "abcde":
        api.put("pods", pod(name))
    real, calls = api._list, 0

    def compact_before_page_two(request, plural):
        nonlocal calls
        calls += 1
        if calls == 2:
            api.version += 1
            api.compact()
        return real(request, plural)

    api._list = compact_before_page_two
    async with Following(client) as following:
        await following.informer.wait_synced()
        await following.equals(api)
    assert [("continue" in s.query) for s in api.sent("list")] == [False, True, False, True, True]


async def test_a_watch_that_always_ends_at_once_is_no_hot_loop(api, client):
    api.put("pods", pod("a"))
    api.faults += [Fault("watch", how="close") for _ in range(1000)]
    slow = KubeSettings(backoff_min_s=0.1, backoff_max_s=30.0)
    async with Following(client, settings=slow) as following:
        await following.informer.wait_synced()
        await asyncio.sleep(1.0)
    assert 1 <= len(api.sent("watch")) < 25


@pytest.mark.parametrize("how", ["garbage", "huge", "gone"])
async def test_an_event_that_cannot_be_taken_is_got_round_by_a_list(api, client, how):
    api.faults += [Fault("watch", how=how)]
    async with Following(client) as following:
        await following.informer.wait_synced()
        api.put("pods", pod("a"))
        await until(lambda: len(api.sent("list")) == 2)
        await following.equals(api)


async def test_a_crd_that_comes_later_is_picked_up(api, client, monkeypatch):
    monkeypatch.setattr("cloudcore.kube.reflector.MISSING_POLL_S", (0.01, 0.02))
    api.missing.add("devices")
    async with Following(client, DEVICES) as following:
        await following.informer.wait_synced()
        assert len(api.sent("list")) >= 3
        api.missing.clear()
        api.put("devices", pod("lamp"))
        await following.equals(api, "devices")


async def test_one_passing_404_deletes_nothing(api, client, monkeypatch):
    monkeypatch.setattr("cloudcore.kube.reflector.MISSING_POLL_S", (0.01, 0.02))
    api.put("devices", pod("lamp"))
    async with Following(client, DEVICES) as following:
        await following.informer.wait_synced()
        api.faults += [Fault("list", 404), Fault("list", 404), Fault("watch", how="gone")]
        api.put("devices", pod("lamp2"))
        await until(lambda: api.open_watches)
        api.compact()
        await api.__aexit__()
        await api.__aenter__()
        await until(lambda: not api.faults and api.open_watches)
        assert ("delete", "lamp") not in following.journal.lines


async def test_a_missing_right_is_said_by_name_once_and_retried(api, client, caplog):
    api.faults += [Fault("list", 403, message="pods is forbidden")] * 3
    with caplog.at_level(logging.INFO):
        async with Following(client) as following:
            await following.informer.wait_synced()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "may not get, list and watch pods; grant it (deploy/rbac.yaml)" in warnings[0]
    assert "following pods: works again" in caplog.text


async def test_a_list_from_the_past_is_refused_then_believed(api, client, caplog):
    api.put("pods", pod("a"))
    async with Following(client) as following:
        await following.informer.wait_synced()
        await until(lambda: api.open_watches)
        await api.__aexit__()
        api._collections.clear()
        api.version = 10  # restored from a backup
        api.put("pods", pod("b"))
        await api.__aenter__()
        await following.equals(api)
    assert len(lists(api)) == 5
    assert "accepted: list at resourceVersion 11, but 101 was seen before" in caplog.text


async def test_a_restored_server_whose_watches_stay_silent_is_noticed_at_the_next_watch(
    api, client, caplog
):
    api.put("pods", pod("a"))
    async with Following(client) as following:
        await following.informer.wait_synced()
        await until(lambda: api.open_watches)
        api._collections.clear()
        api.version = 10
        api.put("pods", pod("b"))
        api.drop_connections()
        await following.equals(api)
    assert "pods: at 11, was at 101: listing" in caplog.text


async def test_a_version_that_a_restored_server_gives_again_stands_for_something_else(api, client):
    api.version = 50
    api.put("pods", pod("a", nodeName="old"))
    again = api.version
    async with Following(client) as following:
        await following.informer.wait_synced()
        await until(lambda: api.open_watches)
        api.put("pods", pod("later"))
        await following.equals(api)
        kept = following.informer.get(ObjectKey("Pod", "default", "a"))
        api._collections.clear()
        api.version = again - 1
        restored = pod("a", nodeName="new")
        restored["metadata"]["uid"] = kept.uid
        api.put("pods", restored)
        api.drop_connections()

        def follows():
            found = following.informer.get(ObjectKey("Pod", "default", "a"))
            return found and json.loads(found.body)["spec"]["nodeName"] == "new"

        await until(follows)
        assert following.informer.get(ObjectKey("Pod", "default", "a")).resource_version == str(
            again
        )


async def test_what_one_kind_shows_of_a_restored_server_all_kinds_believe(api, client):
    api.version = 20
    api.put("devices", pod("before"))
    informers = Informers(client, FAST)
    pods, devices = informers.of(PODS), informers.of(DEVICES)
    task = asyncio.create_task(informers.run())
    await pods.wait_synced()
    await devices.wait_synced()
    await until(lambda: api.open_watches == 2)
    api.put("devices", pod("of-the-old-history"))  # the newest device: 22
    api.put("pods", pod("x"))
    await until(lambda: len(list(pods.items())) == 1 and len(list(devices.items())) == 2)
    api._collections.clear()
    api.version = 20
    api.put("devices", pod("before"))  # 21, as before the backup
    api.put("devices", pod("of-the-new-history"))  # 22 again: a watch from there would miss it
    api.drop_connections()
    names = {"before", "of-the-new-history"}
    await until(lambda: {o.key.name for o in devices.items()} == names)
    await until(lambda: not list(pods.items()))
    task.cancel()
    await asyncio.wait([task])


async def test_metadata_only_resources_never_ask_for_bodies(api, client):
    api.put("configmaps", pod("settings") | {"data": {"k": "v"}})
    async with Following(client, CONFIG_MAPS) as following:
        await following.informer.wait_synced()
        obj = following.informer.get(ObjectKey("ConfigMap", "default", "settings"))
        assert (obj.body, bool(obj.uid)) == (b"", True)


@pytest.mark.parametrize("how", ["list", "watch"])
async def test_an_object_nested_too_deeply_hides_no_other(api, client, caplog, how):
    objects = [pod("before"), pod("deep", x=NESTED), pod("with-it")]
    if how == "list":
        for obj in objects:
            api.put("devices", obj)
    async with Following(client, DEVICES) as following:
        await following.informer.wait_synced()
        if how == "watch":
            for obj in objects:
                api.put("devices", obj)
        await following.equals(api, "devices")
        kept = following.informer.get(ObjectKey("Device", "default", "deep"))
        assert "spec" not in json.loads(kept.body)
    assert "Device default/deep: nested too deeply, treated as empty" in caplog.text


FAULTS = st.sampled_from(
    [
        Fault("list", 500),
        Fault("list", 429, retry_after="0"),
        Fault("list", 410),
        Fault("list", how="drop"),
        Fault("watch", 500),
        Fault("watch", 429),
        Fault("watch", 410),
        Fault("watch", how="drop"),
        Fault("watch", how="close"),
        Fault("watch", how="cut"),
        Fault("watch", how="gone"),
        Fault("watch", how="garbage"),
        Fault("watch", how="bookmark"),
    ]
)
STEPS = st.lists(
    st.one_of(
        FAULTS,
        st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from("abcdef")),
        st.sampled_from(["compact", "wait", "crash"]),
    ),
    max_size=40,
)


@pytest.mark.timeout(120)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_the_cache_equals_the_server_after_any_sequence_of_faults(steps, seed):
    asyncio.run(asyncio.wait_for(_survive(steps, random.Random(seed)), 10))


async def _survive(steps, rng):
    with tempfile.TemporaryDirectory() as folder:
        async with (
            FakeKubeApi(Path(folder)) as api,
            KubeClient(api.endpoint()) as client,
            Following(client) as following,
        ):
            shadow = {}  # what a handler that only listens would believe
            following.informer.subscribe(Shadow(shadow))
            for step in steps:
                await _take(api, step)
                await asyncio.sleep(rng.choice([0, 0, 0.002]))
            api.faults.clear()
            await following.equals(api)
            assert shadow == api.state("pods")
            await until(lambda: api.open_watches)  # leave no handshake half done


async def _take(api, step):
    if isinstance(step, Fault):
        api.faults.append(step)
    elif step == "compact":
        api.compact()
    elif step == "crash":
        api.drop_connections()
    elif step == "wait":
        await asyncio.sleep(0.01)
    elif step[0] == "put":
        api.put("pods", pod(step[1]))
    else:
        api.remove("pods", "default", step[1])


class Shadow:
    def __init__(self, held):
        self.held = held

    def on_upsert(self, obj):
        self.held[obj.key.namespace, obj.key.name] = obj.resource_version

    def on_delete(self, key):
        del self.held[key.namespace, key.name]

    def on_synced(self):
        pass
