from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal

import pytest

from corekit.errors import ConfigError
from edgecore.edged.node.machineinfo import allocatable, resource_list, routed_address
from edgecore.edged.node.reporter import NodeReporter, node_resources, parse_taint
from edgecore.edged.pods.events import EventRecorder, NodeEvents
from edgecore.edged.runtime import ImageState
from edgecore.edged.thresholds import parse_thresholds
from edgecore.edged.usage import RuntimeCondition, RuntimeHandler, RuntimeHealth
from edgecore.settings import EdgeSettings, NodeSettings, PodSettings
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import MemoryStore
from tests.fakes.uplink import FakeUplink


class Node:
    def __init__(self, folder, clock):
        self.store, self.link, self.clock = MemoryStore(), FakeUplink(), clock
        self.runtime = FakeRuntime(clock, "busybox:1")
        self.pressures = ()
        self.settings = EdgeSettings(
            node=NodeSettings(labels={"site": "north"}, taints=("edge=yes:NoSchedule",)),
            pods=PodSettings(
                root_dir=str(folder),
                status_interval_s=0.01,
                lease_interval_s=0.01,
            ),
        )

    @contextlib.asynccontextmanager
    async def running(self):
        reporter = NodeReporter(
            self.settings,
            "edge-1",
            self.store,
            self.link,
            self.runtime,
            address=lambda: "192.0.2.7",
            clock=self.clock,
            pressures=lambda: self.pressures,
            volumes_in_use=lambda: ["kubernetes.io/csi/b", "kubernetes.io/csi/a"],
            events=NodeEvents(EventRecorder("edge-1", self.clock), self.store, "edge-1"),
        )
        async with reporter:
            task = asyncio.create_task(reporter.run())
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def reports(self):
        return [json.loads(r.body) for r in self.store.reports if r.key.kind == "Node"]

    def events(self):
        bodies = [json.loads(r.body) for r in self.store.reports if r.key.kind == "Event"]
        return [(e["type"], e["reason"], e["message"]) for e in bodies]

    async def until(self, condition):
        async with asyncio.timeout(4):
            while not condition():
                await asyncio.sleep(0.005)

    def ready(self):
        return self.condition("Ready")

    def condition(self, kind):
        conditions = self.reports()[-1]["status"]["conditions"] if self.reports() else []
        return next((c for c in conditions if c["type"] == kind), {})


@pytest.fixture
def node(tmp_path, clock):
    return Node(tmp_path, clock)


async def test_the_node_says_what_kubectl_shows_of_it(node):
    async with node.running():
        await node.until(node.reports)
    (report,) = node.reports()
    status = report["status"]
    assert report["metadata"]["labels"]["site"] == "north"
    assert not [label for label in report["metadata"]["labels"] if label.startswith("node-role.")]
    assert report["spec"]["taints"] == [{"key": "edge", "value": "yes", "effect": "NoSchedule"}]
    assert status["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.7"}
    assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.6.20"
    assert status["nodeInfo"]["kubeletVersion"].startswith("v1.32.0+armadillo")
    assert status["capacity"]["pods"] == "110"
    assert status["capacity"]["memory"].endswith("Ki")
    assert status["images"] == [{"names": ["busybox:1"], "sizeBytes": 1000}]
    assert [c["type"] for c in status["conditions"]] == [
        "MemoryPressure",
        "DiskPressure",
        "PIDPressure",
        "Ready",
    ]
    assert node.ready()["message"] == "kubelet is posting ready status"


async def test_a_heartbeat_alone_is_not_reported_but_a_change_is(node):
    async with node.running():
        await node.until(node.reports)
        node.clock.now_s += 60
        await asyncio.sleep(0.1)
        pressures = {json.dumps(r["status"]["conditions"][:3]) for r in node.reports()}
        assert len(node.reports()) == 1, pressures
        node.runtime._images["new:1"] = ImageState("sha256:n", ("new:1",), 5)
        await node.until(lambda: len(node.reports()) == 2)


async def test_a_runtime_that_is_down_makes_the_node_unready(node):
    async with node.running():
        await node.until(lambda: node.ready().get("status") == "True")
        since = node.ready()["lastTransitionTime"]
        node.runtime.down = True
        node.clock.now_s += 60
        await node.until(lambda: node.ready().get("status") == "False")
        assert node.ready()["reason"] == "KubeletNotReady"
        assert node.ready()["message"] == "container runtime is down"
        assert node.ready()["lastTransitionTime"] > since
        assert node.reports()[-1]["status"]["images"] == node.reports()[0]["status"]["images"]
        node.runtime.down = False
        await node.until(lambda: node.ready().get("status") == "True")


async def test_transition_times_survive_a_restart(node):
    async with node.running():
        await node.until(node.reports)
    since = node.ready()["lastTransitionTime"]
    node.clock.now_s += 600
    async with node.running():
        await node.until(lambda: len(node.reports()) == 2)
    assert node.ready()["lastTransitionTime"] == since


async def test_the_lease_is_renewed_only_while_connected(node):
    async with node.running():
        await asyncio.sleep(0.05)
        node.link.connected = True
        await node.until(lambda: len(node.link.offered) >= 2)
    report = node.link.offered[0]
    assert report.key == ("Lease", "kube-node-lease", "edge-1")
    assert json.loads(report.body)["renewTime"] == "2026-09-21T14:13:20.000000Z"


async def test_an_unchanged_node_is_reported_again_when_the_cloud_asks(node):
    async with node.running():
        await node.until(lambda: len(node.reports()) == 1)
        node.link.ask_for_everything()
        await node.until(lambda: len(node.reports()) == 2)


def test_a_taint_is_read_as_kubectl_writes_it():
    assert parse_taint("a/b:NoExecute") == {"key": "a/b", "effect": "NoExecute"}
    with pytest.raises(ConfigError, match="'oops' is not key=value:Effect"):
        parse_taint("oops")


def test_the_address_is_known_without_resolving_a_name():
    assert routed_address("cloud.example:10000")()
    assert routed_address("[::1]:10000")()


async def test_pressures_become_conditions_and_events(node):
    async with node.running():
        await node.until(node.reports)
        assert node.condition("MemoryPressure")["reason"] == "KubeletHasSufficientMemory"
        node.pressures = ("DiskPressure",)
        await node.until(lambda: node.condition("DiskPressure")["status"] == "True")
        assert node.condition("DiskPressure")["message"] == "kubelet has disk pressure"
        node.pressures = ()
        await node.until(lambda: node.condition("DiskPressure")["status"] == "False")
    said = [reason for _, reason, _ in node.events()]
    assert sorted(said[:4]) == [
        "NodeHasNoDiskPressure",
        "NodeHasSufficientMemory",
        "NodeHasSufficientPID",
        "NodeReady",
    ]
    assert said[4:] == ["NodeHasDiskPressure", "NodeHasNoDiskPressure"]
    words = "Node edge-1 status is now: NodeHasDiskPressure"
    assert ("Normal", "NodeHasDiskPressure", words) in node.events()


async def test_a_runtime_without_its_network_makes_the_node_unready(node):
    problem = RuntimeCondition(
        "NetworkReady", False, "NetworkPluginNotReady", "cni not initialized"
    )
    node.runtime.healthy = RuntimeHealth((RuntimeCondition("RuntimeReady", True), problem))
    async with node.running():
        await node.until(node.reports)
    assert node.ready()["message"] == (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        "message:cni not initialized"
    )


async def test_the_runtimes_handlers_and_the_volumes_in_use_are_told(node):
    handlers = (RuntimeHandler(""), RuntimeHandler("kata", recursive_read_only_mounts=True))
    node.runtime.healthy = RuntimeHealth((), handlers)
    async with node.running():
        await node.until(node.reports)
        status = node.reports()[-1]["status"]
        assert status["runtimeHandlers"][1] == {
            "name": "kata",
            "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False},
        }
        assert status["volumesInUse"] == ["kubernetes.io/csi/a", "kubernetes.io/csi/b"]
        node.runtime.down = True
        await node.until(lambda: node.ready()["status"] == "False")
        assert node.reports()[-1]["status"]["runtimeHandlers"] == status["runtimeHandlers"]


async def test_a_reboot_is_told(node):
    async with node.running():
        await node.until(node.reports)
    note = json.loads(node.store.notes["node", "edge-1"])
    boot_id = note["status"]["nodeInfo"]["bootID"]
    note["status"]["nodeInfo"]["bootID"] = "another"
    node.store.notes["node", "edge-1"] = json.dumps(note).encode()
    async with node.running():
        await node.until(lambda: len(node.reports()) == 2)
    words = f"Node edge-1 has been rebooted, boot id: {boot_id}"
    assert ("Warning", "Rebooted", words) in node.events()


def test_allocatable_is_what_is_neither_reserved_nor_kept_free():
    whole = {
        "cpu": Decimal(4),
        "memory": Decimal(1 << 30),
        "ephemeral-storage": Decimal(1000),
        "pods": Decimal(110),
        "hugepages-2Mi": Decimal(64 << 20),
    }
    hard = parse_thresholds("k", {"memory.available": "100Mi", "nodefs.available": "10%"})
    reserved = [{"cpu": "500m", "memory": "128Mi"}, {"cpu": "250m", "ephemeral-storage": "100"}]
    left = allocatable(whole, reserved, hard)
    assert left == {
        "cpu": Decimal("3.25"),
        "memory": Decimal((1024 - 128 - 100 - 64) << 20),
        "ephemeral-storage": Decimal(800),
        "pods": Decimal(110),
        "hugepages-2Mi": Decimal(64 << 20),
    }
    written = resource_list(left, bytes_in_ki=False)
    assert (written["cpu"], written["memory"]) == ("3250m", f"{(1024 - 292) << 10}Ki")
    assert allocatable(whole, [{"memory": "9Gi"}])["memory"] == 0


def test_resources_of_the_settings_are_the_nodes_too(tmp_path):
    settings = EdgeSettings(
        node=NodeSettings(extended_resources={"acme.com/relay": "4"}, max_pods=7),
        pods=PodSettings(root_dir=str(tmp_path), kube_reserved={"cpu": "100m"}),
    )
    whole, usable = node_resources(settings)
    assert whole["acme.com/relay"] == usable["acme.com/relay"] == 4
    assert usable["pods"] == 7
    assert whole["cpu"] - usable["cpu"] == Decimal("0.1")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (PodSettings(system_reserved={"cpu": "much"}), "pods.system_reserved.cpu: 'much' is not"),
        (PodSettings(kube_reserved={"memory": "-1"}), "pods.kube_reserved.memory: -1 is less"),
        (PodSettings(eviction_hard={"disk": "1"}), "pods.eviction_hard.disk: is not one of"),
    ],
)
def test_a_setting_that_is_no_amount_names_itself(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        node_resources(EdgeSettings(pods=settings))
