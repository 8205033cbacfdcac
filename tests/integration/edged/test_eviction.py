"""Pods that are ended for the node's sake, or for their own greed, on real containerd with a small disk."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.node.conditions import node_conditions
from edgecore.edged.node.machineinfo import memory_capacity_bytes
from tests.integration.edged.evicting import LISTEN, evicted, gone, pod, watched, write
from tests.integration.edged.onenode import GROUP, remove_cgroup

pytestmark = [pytest.mark.timeout(120), pytest.mark.containerd]
QUICK = {
    "disk_use_interval_s": 0.0,
    "eviction_period_s": 0.2,
    "eviction_pressure_transition_s": 0.5,
}
IMPORTANT = {"priority": 1000}
CRITICAL = {"priority": 2000001000}


@pytest.fixture
def edge(cri_edge, tmp_path):
    """Its pods' files lie on a disk of 64 MiB and 6,000 inodes, of which half must stay free."""
    folder = tmp_path / "pods"
    folder.mkdir()
    options = "size=64m,nr_inodes=6000"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    hard = {"nodefs.available": "50%", "nodefs.inodesFree": "50%"}
    cri_edge.settings = dataclasses.replace(cri_edge.settings, **QUICK, eviction_hard=hard)
    yield cri_edge
    subprocess.run(["umount", "-l", folder], check=True)


async def test_the_greediest_pod_goes_when_the_nodes_disk_runs_short(edge):
    node_file = edge.folder / "pods/of-the-node"
    async with watched(edge) as manager:
        await edge.put("Pod", pod("modest", "u-1", write(1), requests={"cpu": "1m"}))
        await edge.until(lambda: edge.phase("modest") == "Running", 30)
        await edge.put("Pod", pod("hog", "u-2", write(40)))
        await edge.until(lambda: edge.phase("hog") == "Failed", 30)
        status = edge.status("hog")
        assert status["reason"] == "Evicted"
        assert status["message"].startswith(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 32Mi, available: "
        )
        assert next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert edge.phase("modest") == "Running"
        said = [(kind, reason, text) for kind, reason, text in edge.events()]
        assert (
            "Warning",
            "EvictionThresholdMet",
            "Attempting to reclaim ephemeral-storage",
        ) in said
        assert ("Warning", "Evicted", status["message"]) in said
        # What it took is given back although it is not deleted, its logs too; so the pressure ends.
        await edge.until(lambda: manager.conditions == (), 30)
        volumes = edge.folder / "pods/volumes/u-2/volumes"
        await edge.until(lambda: not volumes.exists(), 30)
        await edge.until(lambda: not (edge.folder / "logs/default_hog_u-2").exists(), 30)
        assert [s for s in await edge.runtime.list_sandboxes() if s.pod.uid == "u-2"] == []
        assert edge.container("hog")["state"]["terminated"]["exitCode"] == 137
        # Nobody new is taken while the disk is short.
        await edge.drop("Pod", "modest", "u-1")
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 30)
        node_file.write_bytes(b"x" * (40 << 20))
        await edge.until(lambda: manager.conditions == ("DiskPressure",), 30)
        await edge.put("Pod", pod("late", "u-3", "true"))
        await edge.until(lambda: edge.phase("late") == "Failed", 30)
        assert edge.status("late")["message"] == (
            "Pod was rejected: The node had condition: [DiskPressure]. "
        )
        node_file.unlink()
        await edge.until(lambda: manager.conditions == (), 30)
        await edge.put("Pod", pod("next", "u-4", "true"))
        await edge.until(lambda: edge.phase("next") == "Running", 30)
        await gone(edge, hog="u-2", late="u-3", next="u-4")


async def test_the_pod_with_a_million_little_files_goes_when_inodes_run_short(edge):
    files = "mkdir /scratch/d; for i in $(seq 4000); do : > /scratch/d/$i; done"
    async with watched(edge) as manager:
        await edge.put("Pod", pod("modest", "u-1", "touch /scratch/x"))
        await edge.until(lambda: edge.phase("modest") == "Running", 30)
        await edge.put("Pod", pod("hog", "u-2", files))
        await edge.until(lambda: edge.phase("hog") == "Failed", 30)
        message = edge.status("hog")["message"]
        assert message.startswith(
            "The node was low on resource: inodes. Threshold quantity: 3000, "
        )
        assert ("Warning", "Evicted", message) in edge.events()
        await edge.until(lambda: manager.conditions == (), 30)
        assert edge.phase("modest") == "Running"
        await gone(edge, modest="u-1", hog="u-2")


async def test_a_soft_threshold_waits_and_gives_the_pod_its_time(edge):
    edge.settings = dataclasses.replace(
        edge.settings,
        eviction_hard={},
        eviction_soft={"nodefs.available": "50%"},
        eviction_soft_grace_s={"nodefs.available": 3600.0},
        eviction_max_pod_grace_s=30.0,
    )
    slow = f"trap 'sleep 1; echo bye; exit 0' TERM; {write(40)}; while :; do sleep 0.1; done"
    made = pod("hog", "u-1", slow)
    made["spec"]["terminationGracePeriodSeconds"] = 60
    looks, ahead_s = 0, 0.0

    def clock():
        nonlocal looks
        looks += 1
        return time.time() + ahead_s

    async with watched(edge, clock=clock) as manager:
        await edge.put("Pod", made)
        await edge.until(lambda: manager.conditions == ("DiskPressure",), 30)
        looks = 0
        await edge.until(lambda: looks > 10, 30)
        assert edge.phase("hog") == "Running"
        ahead_s = 3600.0
        await edge.until(lambda: edge.phase("hog") == "Failed", 30)
        assert edge.container("hog")["state"]["terminated"]["exitCode"] == 0  # it ended by itself
        await gone(edge, hog="u-1")


async def test_a_pod_that_holds_more_than_it_may_goes_though_there_is_room(edge):
    async with watched(edge) as manager:
        await edge.put("Pod", pod("volume", "u-1", write(3), size_limit="2Mi"))
        babble = f"{write(3, '/dev/stdout')} | od -v"
        storage = {"ephemeral-storage": "2Mi"}
        await edge.put("Pod", pod("logs", "u-2", babble, limits=storage))
        await edge.put("Pod", pod("layer", "u-4", write(3, "/tmp/file"), limits=storage))
        await edge.put("Pod", pod("files", "u-5", write(3), limits=storage))
        await edge.put("Pod", pod("good", "u-3", write(1), size_limit="2Mi", limits=storage))
        # What is in memory cannot grow beyond its limit, and is no part of the disk.
        full = f"{write(3)} || true"
        await edge.put("Pod", pod("memory", "u-6", full, size_limit="2Mi", medium="Memory"))
        await edge.until(lambda: edge.phase("volume") == "Failed", 30)
        assert edge.status("volume")["message"] == (
            'Usage of EmptyDir volume "scratch" exceeds the limit "2Mi". '
        )
        for name in ("logs", "layer", "files"):
            await edge.until(lambda name=name: edge.phase(name) == "Failed", 30)
            assert edge.status(name)["reason"] == "Evicted"
            assert edge.status(name)["message"] == (
                "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
            )
        await edge.until(lambda: edge.phase("memory") == "Running", 30)
        assert edge.phase("good") == "Running"
        assert manager.conditions == ()
        await gone(
            edge, volume="u-1", logs="u-2", good="u-3", layer="u-4", files="u-5", memory="u-6"
        )


@contextlib.asynccontextmanager
async def under_pressure(edge, signal, pods, order):
    """Run `pods`, then have the node be short of `signal`, whatever this machine has of it; they go in `order`."""
    calm = edge.settings
    short = dataclasses.replace(calm, eviction_hard={signal: "100%"})
    async with edge.running():
        for made in pods:
            await edge.put("Pod", made)
        names = [made["metadata"]["name"] for made in pods]
        logs = [
            edge.folder / f"logs/default_{n}_{m['metadata']['uid']}/app/0.log"
            for n, m in zip(names, pods, strict=True)
        ]
        await edge.until(
            lambda: all(log.exists() and b"ready" in log.read_bytes() for log in logs), 60
        )
    edge.settings = short
    async with watched(edge) as manager:
        await edge.until(lambda: len(evicted(edge)) == len(order), 90)
        assert evicted(edge) == order
        yield manager
        await gone(edge, **{m["metadata"]["name"]: m["metadata"]["uid"] for m in pods})


HOLD = write(24)  # in memory, and counted as the container's


async def test_under_memory_pressure_pods_go_in_order_and_no_best_effort_pod_comes(edge):
    modest = {"memory": "64Mi", "cpu": "1m"}
    in_memory = {"medium": "Memory", "wait": LISTEN}
    pods = [
        pod("guaranteed", "u-1", HOLD, limits=modest, requests=modest, **in_memory),
        pod("important", "u-2", HOLD, **in_memory, **IMPORTANT),
        pod("hog", "u-3", HOLD, **in_memory),
        pod("small", "u-4", "true", **in_memory),
        pod("critical", "u-5", HOLD, **in_memory, **CRITICAL),
    ]
    # Who uses more than it asked for; among those the less important; among those who uses most.
    order = ["hog", "small", "important", "guaranteed"]
    async with under_pressure(edge, "memory.available", pods, order) as manager:
        assert manager.conditions == ("MemoryPressure",)
        memory, *_ = node_conditions(manager.conditions, "", (), time.time())
        assert (memory["status"], memory["reason"]) == ("True", "KubeletHasInsufficientMemory")
        message = edge.status("hog")["message"]
        assert message.startswith("The node was low on resource: memory. Threshold quantity: ")
        assert "Container app was using " in message
        assert message.endswith(", request is 0, has larger consumption of memory. ")
        assert "Container app" not in edge.status("guaranteed")["message"]
        assert ("Warning", "Evicted", message) in edge.events()
        kept = {c["type"]: c for c in edge.status("hog")["conditions"]}["DisruptionTarget"]
        assert (kept["status"], kept["reason"]) == ("True", "TerminationByKubelet")
        assert edge.phase("critical") == "Running"
        await edge.put("Pod", pod("late", "u-6", "true"))
        await edge.until(lambda: edge.phase("late") == "Failed", 30)
        assert edge.status("late")["message"] == (
            "Pod was rejected: The node had condition: [MemoryPressure]. "
        )
        await edge.drop("Pod", "late", "u-6")


async def test_when_all_pods_use_what_they_may_one_goes_though_the_node_has_memory_left(cri_edge):
    edge, ours = cri_edge, 96 << 20
    reserved = {"memory": str(memory_capacity_bytes() - ours)}
    edge.settings = dataclasses.replace(
        edge.settings,
        **QUICK,
        cgroup_root=GROUP,
        kube_reserved=reserved,
        eviction_hard={"memory.available": "48Mi"},
    )
    memory = Path("/sys/fs/cgroup/memory" + GROUP, "kubepods/memory.limit_in_bytes")
    try:
        async with watched(edge) as manager:
            await edge.put("Pod", pod("modest", "u-1", "true"))
            await edge.until(lambda: edge.phase("modest") == "Running", 30)
            if memory.parent.exists():  # of cgroup version 1
                assert int(memory.read_text()) == ours
            assert manager.conditions == ()
            await edge.put("Pod", pod("hog", "u-2", write(60), medium="Memory", wait=LISTEN))
            await edge.until(lambda: edge.phase("hog") == "Failed", 60)
            message = edge.status("hog")["message"]
            assert message.startswith(
                "The node was low on resource: memory. Threshold quantity: 48Mi, available: "
            )
            assert ("Warning", "Evicted", message) in edge.events()
            await edge.until(lambda: manager.conditions == (), 30)
            assert edge.phase("modest") == "Running"
            await gone(edge, modest="u-1", hog="u-2")
    finally:
        for controller in Path("/sys/fs/cgroup").iterdir():
            remove_cgroup(controller / GROUP.lstrip("/"))


async def test_under_pid_pressure_the_less_important_go_first_those_with_most_processes_before(
    edge,
):
    fork = "for i in $(seq 20); do sleep 1000 & done"
    pods = [
        pod("important", "u-1", fork, wait=LISTEN, **IMPORTANT),
        pod("modest", "u-2", "true", wait=LISTEN),
        pod("bomb", "u-3", fork, wait=LISTEN),
        pod("critical", "u-4", fork, wait=LISTEN, **CRITICAL),
    ]
    order = ["bomb", "modest", "important"]
    async with under_pressure(edge, "pid.available", pods, order) as manager:
        assert manager.conditions == ("PIDPressure",)
        message = edge.status("bomb")["message"]
        assert message.startswith("The node was low on resource: pids. Threshold quantity: ")
        assert ("Warning", "EvictionThresholdMet", "Attempting to reclaim pids") in edge.events()
        assert edge.phase("critical") == "Running"
