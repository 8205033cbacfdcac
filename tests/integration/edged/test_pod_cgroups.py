"""Cgroups of pods and their containers, read from the kernel, with a real containerd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.onenode import GROUP, PATIENCE_S, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]


def kernel_file(relative, name):
    """The content of a cgroup file of either version of the kernel's interface, or None."""
    v1 = {
        "cpu.shares": "cpu",
        "cpu.cfs_quota_us": "cpu",
        "memory.limit_in_bytes": "memory",
        "pids.max": "pids",
    }
    path = Path("/sys/fs/cgroup", v1[name], relative.lstrip("/"), name)
    return path.read_text().strip() if path.exists() else None


needs_v1 = pytest.mark.skipif(
    Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="files of cgroup version 1 are read"
)


@needs_v1
async def test_a_pod_and_its_containers_lie_in_the_cgroups_of_their_class_with_their_limits(node):
    full = {"cpu": "200m", "memory": "64Mi"}
    app = shell("sleep 300", resources={"limits": full, "requests": full})
    pod = f"{GROUP}/kubepods/podu-1"
    async with node.with_settings(pids_limit=200) as edge:
        await edge.put("Pod", pod_object(containers=[app], terminationGracePeriodSeconds=0))
        await edge.until(lambda: edge.phase() == "Running", PATIENCE_S)
        own = edge.container()["containerID"].removeprefix("containerd://")
        found = {
            name: (kernel_file(pod, name), kernel_file(f"{pod}/{own}", name))
            for name in ("cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes")
        }
        assert kernel_file(pod, "pids.max") == "200"
        score = Path(f"/proc/{pid_in(f'{pod}/{own}')}/oom_score_adj").read_text().strip()
    assert found == {
        "cpu.shares": ("204", "204"),
        "cpu.cfs_quota_us": ("20000", "20000"),
        "memory.limit_in_bytes": (str(64 << 20), str(64 << 20)),
    }
    assert edge.status()["qosClass"] == "Guaranteed"
    assert int(score) <= 0
    # Gone with the pod, also where only the runtime made one.
    assert not list(Path("/sys/fs/cgroup").glob(f"*{pod}"))


def pid_in(relative):
    procs = Path("/sys/fs/cgroup/memory", relative.lstrip("/"), "cgroup.procs")
    return procs.read_text().split()[0]


@needs_v1
async def test_pods_of_each_class_lie_in_its_cgroup_which_goes_with_them(node):
    whole = {"cpu": "10m", "memory": "32Mi"}
    asked = {
        "guaranteed": ("", {"limits": whole, "requests": whole}),
        "burstable": ("/burstable", {"requests": whole}),
        "besteffort": ("/besteffort", {}),
    }
    top = Path("/sys/fs/cgroup/memory", GROUP.lstrip("/"), "kubepods")
    async with node.with_settings() as edge:
        for name, (_, resources) in asked.items():
            made = pod_object(name, f"u-{name}", [shell("sleep 300", resources=resources)])
            made["spec"]["terminationGracePeriodSeconds"] = 0
            await edge.put("Pod", made)
        await edge.until(lambda: all(edge.phase(name) == "Running" for name in asked), PATIENCE_S)
        for name, (level, _) in asked.items():
            assert Path(f"{top}{level}/podu-{name}").is_dir()
            assert edge.status(name)["qosClass"].lower() == name
        for name in asked:
            await edge.drop("Pod", name, f"u-{name}")
        await edge.until(lambda: not list(top.glob("**/podu-*")), PATIENCE_S)
        assert {f.name for f in top.iterdir() if f.is_dir()} == {"burstable", "besteffort"}


@needs_v1
async def test_without_requests_a_pod_is_best_effort_and_gets_next_to_no_share(node):
    async with node.with_settings() as edge:
        app = shell("sleep 300")
        await edge.put("Pod", pod_object(containers=[app], terminationGracePeriodSeconds=0))
        await edge.until(lambda: edge.phase() == "Running", PATIENCE_S)
        level = f"{GROUP}/kubepods/besteffort"
        assert kernel_file(level, "cpu.shares") == "2"
        assert kernel_file(f"{level}/podu-1", "cpu.shares") == "2"


@needs_v1
async def test_without_a_cgroup_root_containers_lie_where_the_runtime_puts_them(node):
    whole = {"resources": {"limits": {"cpu": "1"}}}
    async with node.with_settings(cgroup_root="none") as edge:
        await edge.put("Pod", pod_object(containers=[shell("sleep 300")], **whole))
        await edge.until(lambda: edge.phase() == "Failed", PATIENCE_S)
        assert edge.status()["reason"] == "PodLevelResourcesNotSupported"
    assert kernel_file(GROUP, "cpu.shares") is None
