from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from corekit.errors import ConfigError
from edgecore.edged.node.machineinfo import routed_address
from edgecore.edged.node.reporter import NodeReporter, parse_taint
from edgecore.edged.runtime import ImageState
from edgecore.settings import EdgeSettings, NodeSettings, PodSettings
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import MemoryStore
from tests.fakes.uplink import FakeUplink


class Node:
    def __init__(self, folder, clock):
        self.store, self.link, self.clock = MemoryStore(), FakeUplink(), clock
        self.runtime = FakeRuntime(clock, "busybox:1")
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
        return [json.loads(r.body) for r in self.store.reports]

    async def until(self, condition):
        async with asyncio.timeout(4):
            while not condition():
                await asyncio.sleep(0.005)

    def ready(self):
        conditions = self.reports()[-1]["status"]["conditions"] if self.store.reports else []
        return next((c for c in conditions if c["type"] == "Ready"), {})


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
