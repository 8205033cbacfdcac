"""The scheduler and node lifecycle against the real store, without HTTP."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kubecore.controllers.bootstrap import Bootstrap
from kubecore.controllers.nodelifecycle import NodeLifecycle
from kubecore.controllers.orphans import OrphanedPods
from kubecore.controllers.scheduler import Scheduler
from kubecore.kinds.registry import Registry
from kubecore.objects.client import Objects
from kubecore.objects.operations import Operations
from kubecore.objects.watching import WatchHub
from kubecore.settings import ControllerSettings
from kubecore.storage.store import Store
from tests.kubecore.samples import make_pod

QUICK = ControllerSettings(node_monitor_period_s=0.05, node_monitor_grace_s=0.3, orphan_grace_s=0.3)
# Long enough that a busy machine renews in time, and shorter than the test renews.
STEADY = ControllerSettings(node_monitor_period_s=0.05, node_monitor_grace_s=1.5)
PATIENT = ControllerSettings(node_monitor_period_s=0.05, node_monitor_grace_s=60)


class Cluster:
    """The API in this process, with short words for what the tests do."""

    def __init__(self, objects):
        self.objects = objects

    def kind(self, plural, group=""):
        return self.objects.registry.find(group, "v1", plural)

    async def add_pod(self, name="web", **spec):
        return await self.objects.create(self.kind("pods"), "default", make_pod(name, **spec))

    async def add_node(self, name="edge-1"):
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
        status = {"conditions": [ready], "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}
        body = {"metadata": {"name": name}, "status": status}
        return await self.objects.create(self.kind("nodes"), "", body)

    async def report(self, plural, namespace, name, status):
        await self.objects.patch(
            self.kind(plural),
            namespace,
            name,
            {"status": status},
            content_type="application/strategic-merge-patch+json",
            subresource="status",
        )

    async def until(self, plural, namespace, name, holds):
        """Return the object as soon as it is as it should be; the test's timeout is the limit."""
        while True:
            obj = await self.objects.get(self.kind(plural), namespace, name)
            if holds(obj):
                return obj
            await asyncio.sleep(0.01)

    async def events(self):
        found, _ = await self.objects.list(self.kind("events"))
        return sorted((e["reason"], e["message"]) for e in found)


@asynccontextmanager
async def cluster(path, *makers):
    store = Store(path / "kube.db")
    registry, hub = Registry(), WatchHub(store)
    objects = Objects(Operations(store, registry, hub))
    async with store, Bootstrap(store, registry, hub, objects):
        components = [make(objects) for make in makers]
        tasks = [
            asyncio.create_task(c.run()) for c in (store, hub, *components) if hasattr(c, "run")
        ]
        yield Cluster(objects)
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def condition(obj, kind):
    found = [c for c in obj.get("status", {}).get("conditions") or [] if c["type"] == kind]
    return found[0] if found else {}


def bound(pod):
    return pod["spec"].get("nodeName")


async def test_a_pod_waits_for_a_node_says_so_and_is_bound_when_one_comes(tmp_path):
    async with cluster(tmp_path, Scheduler) as kube:
        await kube.add_pod()
        waiting = await kube.until(
            "pods",
            "default",
            "web",
            lambda p: condition(p, "PodScheduled").get("status") == "False",
        )
        assert (
            condition(waiting, "PodScheduled")["message"] == "no nodes available to schedule pods"
        )
        await kube.add_node()
        pod = await kube.until("pods", "default", "web", bound)
        assert pod["spec"]["nodeName"] == "edge-1"
        assert condition(pod, "PodScheduled")["status"] == "True"
        await asyncio.sleep(0.1)
        assert await kube.events() == [
            ("FailedScheduling", "no nodes available to schedule pods"),
            ("Scheduled", "Successfully assigned default/web to edge-1"),
        ]


async def test_pods_of_one_burst_share_what_a_node_has(tmp_path):
    async with cluster(tmp_path, Scheduler) as kube:
        await kube.add_node()
        wants = [{"name": "a", "image": "b", "resources": {"requests": {"cpu": "1"}}}]
        for index in range(3):
            await kube.add_pod(f"web-{index}", containers=wants)
        full = await kube.until(
            "pods",
            "default",
            "web-2",
            lambda p: condition(p, "PodScheduled").get("reason") == "Unschedulable",
        )
        text = "0/1 nodes are available: 1 Insufficient cpu."
        assert condition(full, "PodScheduled")["message"] == text
        await kube.objects.delete(kube.kind("pods"), "default", "web-0", grace_period_s=0)
        assert await kube.until("pods", "default", "web-2", bound)


@pytest.mark.timeout(10)
async def test_a_silent_node_becomes_unknown_and_comes_back(tmp_path):
    async with cluster(tmp_path, lambda o: NodeLifecycle(o, QUICK)) as kube:
        await kube.add_node()
        await kube.add_pod(nodeName="edge-1")
        await kube.report(
            "pods", "default", "web", {"conditions": [{"type": "Ready", "status": "True"}]}
        )
        node = await kube.until(
            "nodes", "", "edge-1", lambda n: len(n["spec"].get("taints") or []) == 2
        )
        assert condition(node, "Ready")["reason"] == "NodeStatusUnknown"
        await kube.until(
            "pods", "default", "web", lambda p: condition(p, "Ready")["status"] == "False"
        )
        assert ("NodeNotReady", "Node edge-1 status is now: NodeNotReady") in await kube.events()
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T01:00:00Z"}
        await kube.report("nodes", "", "edge-1", {"conditions": [ready]})
        await kube.until("nodes", "", "edge-1", lambda n: not n["spec"].get("taints"))


@pytest.mark.timeout(30)
async def test_a_node_that_renews_its_lease_stays_ready(tmp_path):
    async with cluster(tmp_path, lambda o: NodeLifecycle(o, STEADY)) as kube:
        leases = kube.kind("leases", "coordination.k8s.io")
        await kube.add_node()
        lease = {"metadata": {"name": "edge-1"}, "spec": {"holderIdentity": "edge-1"}}
        await kube.objects.create(leases, "kube-node-lease", lease)
        for second in range(25):
            renewed = {"spec": {"renewTime": f"2026-01-01T00:00:{second:02d}.000000Z"}}
            await kube.objects.patch(leases, "kube-node-lease", "edge-1", renewed)
            await asyncio.sleep(0.1)
        node = await kube.objects.get(kube.kind("nodes"), "", "edge-1")
        assert condition(node, "Ready")["status"] == "True"


async def test_a_cordoned_node_is_tainted_as_long_as_it_is_cordoned(tmp_path):
    async with cluster(tmp_path, lambda o: NodeLifecycle(o, PATIENT)) as kube:
        nodes = kube.kind("nodes")
        await kube.add_node()
        await kube.objects.patch(nodes, "", "edge-1", {"spec": {"unschedulable": True}})
        node = await kube.until("nodes", "", "edge-1", lambda n: n["spec"].get("taints"))
        assert [t["key"] for t in node["spec"]["taints"]] == ["node.kubernetes.io/unschedulable"]
        await kube.objects.patch(nodes, "", "edge-1", {"spec": {"unschedulable": None}})
        await kube.until("nodes", "", "edge-1", lambda n: not n["spec"].get("taints"))


async def test_pods_of_a_node_that_is_gone_are_removed_and_others_stay(tmp_path):
    async with cluster(tmp_path, lambda objects: OrphanedPods(objects, QUICK)) as api:
        pods, nodes = api.kind("pods"), api.kind("nodes")
        for name in ("edge-1", "edge-2"):
            await api.add_node(name)
            await api.add_pod(f"on-{name}", nodeName=name)
        await api.add_pod("unbound")
        await api.objects.delete(pods, "default", "on-edge-1")  # its agent has 30 s for that
        await api.objects.delete(nodes, "", "edge-1")
        while "on-edge-1" in (names := await pod_names(api)):
            await asyncio.sleep(0.01)
        assert names == {"on-edge-2", "unbound"}


async def test_a_node_that_comes_back_in_time_keeps_its_pods(tmp_path):
    now_s = 0.0
    settings = replace(PATIENT, orphan_grace_s=40)
    made = lambda objects: OrphanedPods(objects, settings, steady_clock=lambda: now_s)  # noqa: E731
    async with cluster(tmp_path, made) as api:
        await api.add_pod("web", nodeName="edge-1")
        await asyncio.sleep(0.2)
        await api.add_node("edge-1")
        now_s = 60.0
        await asyncio.sleep(0.2)
        assert await pod_names(api) == {"web"}


async def pod_names(api):
    found, _ = await api.objects.list(api.kind("pods"))
    return {pod["metadata"]["name"] for pod in found}
