"""Stats of real containers: containerd with cgroups, and plain processes."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from corekit.timestamps import rfc3339
from edgecore.edged.cri import CriRuntime
from edgecore.edged.process.runtime import ProcessRuntime
from edgecore.edged.runtime import ContainerConfig, PodIdentity, SandboxConfig
from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.provider import NodeStats
from tests.fakes.pods import container, pod_object

pytestmark = pytest.mark.timeout(60)
IMAGE = "docker.io/library/busybox:latest"
# Burns CPU until a file is big, then waits: what is measured has an end.
BUSY = "dd if=/dev/zero bs=1024k count=300 2>/dev/null | tail -c 1; echo done; exec sleep 1000"


@pytest.fixture(params=[pytest.param("cri", marks=pytest.mark.containerd), pytest.param("process")])
async def runtime(request, tmp_path):
    if request.param == "cri":
        daemon = request.getfixturevalue("containerd")
        runtime = CriRuntime(str(daemon.socket), owner=f"edge-{os.urandom(4).hex()}")
    else:
        runtime = ProcessRuntime(tmp_path / "process")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


async def test_a_busy_container_shows_in_every_page(runtime, tmp_path):
    is_cri = isinstance(runtime, CriRuntime)
    pod = PodIdentity("default", "busy", f"u-{os.urandom(4).hex()}")
    folder = tmp_path / "logs" / f"default_busy_{pod.uid}"
    config = SandboxConfig(pod, 0, "busy", str(folder), {}, {})
    sandbox = await runtime.run_sandbox(config)
    container = ContainerConfig("app", 0, IMAGE, ["/bin/sh", "-c", BUSY], log_path="app/0.log")
    made = await runtime.create_container(sandbox, container, config)
    await runtime.start_container(made)
    stats = NodeStats(
        Collector(
            runtime, "edge-1", volume_root=tmp_path, log_root=tmp_path / "logs", disk_use_keep_s=0
        ),
        keep_s=0,
    )

    async def used():
        summary = await stats.summary()
        return summary, summary["pods"][0]["cpu"]["usageCoreNanoSeconds"]

    deadline = time.monotonic() + 40
    while (found := await used())[1] < 50_000_000:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)
    summary = found[0]
    (pod_stats,) = summary["pods"]
    (app,) = pod_stats["containers"]
    assert app["name"] == "app"
    assert app["memory"]["workingSetBytes"] > 0
    page = await stats.cadvisor_metrics()
    assert 'pod="busy"' in page
    assert f'name="{made}"' in page
    if is_cri:
        assert app["memory"]["rssBytes"] > 0
        assert pod_stats["process_stats"]["process_count"] >= 1
        assert pod_stats["network"]["name"] == "eth0"
        assert "container_network_receive_bytes_total{" in page
        assert summary["node"]["runtime"]["imageFs"]["capacityBytes"] > 0


def has_logged(summary):
    """Whether the one pod shows, with a container whose log is on the disk."""
    containers = [found for pod in summary["pods"] for found in pod["containers"]]
    return [found["logs"]["usedBytes"] > 0 for found in containers] == [True]


NUMBERS = {
    "cpu": {"time", "usageNanoCores", "usageCoreNanoSeconds"},
    "memory": {"time", "usageBytes", "workingSetBytes", "rssBytes", "pageFaults", "majorPageFaults"},
    "disk": {
        "time", "availableBytes", "capacityBytes", "usedBytes", "inodesFree", "inodes", "inodesUsed",
    },
}  # fmt: skip


@pytest.mark.containerd
async def test_the_summary_has_what_upstream_expects_of_it(cri_edge):
    """Fields and plausible numbers, of a pod whose container was restarted, and of the node around it."""
    edge, mount = cri_edge, {"name": "scratch", "mountPath": "/scratch"}
    script = (
        "[ -e /scratch/x ] || { echo once > /scratch/x; exit 1; }; "
        "echo in the layer > /layer; echo logged; exec sleep 1000"
    )
    app = container(
        image=IMAGE, command=["/bin/sh", "-c", script], volumeMounts=[mount],
        resources={"limits": {"memory": "80Mi"}},
    )  # fmt: skip
    made = pod_object(containers=[app], volumes=[{"name": "scratch", "emptyDir": {}}])
    made["spec"]["terminationGracePeriodSeconds"] = 0
    places = {"volume_root": edge.folder / "pods/volumes", "log_root": edge.folder / "logs"}
    stats = NodeStats(Collector(edge.runtime, "edge-1", **places, disk_use_keep_s=0), keep_s=0)
    async with edge.running():
        await edge.put("Pod", made)
        await edge.until(lambda: edge.container().get("restartCount") == 1, 40)
        await edge.until(lambda: edge.phase() == "Running", 40)
        deadline = time.monotonic() + 30
        while not has_logged(summary := await stats.summary()):
            assert time.monotonic() < deadline, summary
            await asyncio.sleep(0.1)
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not any((edge.folder / "pods/volumes").iterdir()), 30)
    node, (pod,) = summary["node"], summary["pods"]
    (told,) = pod["containers"]
    system = {found["name"]: found for found in node["systemContainers"]}
    assert system.keys() == {"kubelet", "runtime", "pods"}
    for place in (node, pod, told, *system.values()):
        assert place["cpu"].keys() >= NUMBERS["cpu"]
        assert place["memory"].keys() >= NUMBERS["memory"]
        assert place["startTime"] < rfc3339(time.time())
    for name in ("kubelet", "runtime"):
        assert system[name]["memory"]["rssBytes"] > 1 << 20
        assert system[name]["cpu"]["usageCoreNanoSeconds"] > 0
    assert told["memory"]["availableBytes"] <= 80 << 20
    # containerd measures images and writable layers every ten seconds: they may not be known yet.
    measured_later = told["rootfs"], node["runtime"]["imageFs"], node["runtime"]["containerFs"]
    for disk in (
        node["fs"], node["runtime"]["imageFs"], node["runtime"]["containerFs"],
        pod["ephemeral-storage"], told["rootfs"], told["logs"], pod["volume"][0],
    ):  # fmt: skip
        assert disk.keys() >= NUMBERS["disk"]
        assert disk["usedBytes"] > 0 or any(disk is found for found in measured_later)
    assert (pod["podRef"]["name"], pod["podRef"]["uid"]) == ("web", "u-1")
    assert pod["volume"][0]["name"] == "scratch"
    assert pod["process_stats"]["process_count"] == 1
    assert pod["network"]["name"] == "eth0"
    assert {"rxBytes", "rxErrors", "txBytes", "txErrors"} <= pod["network"].keys()
    assert node["network"]["interfaces"]
    assert 0 < node["rlimit"]["curproc"] < node["rlimit"]["maxpid"]
    assert {"swapAvailableBytes", "swapUsageBytes"} <= node["swap"].keys()
