"""cgroup version 2 on a host whose systemd owns the tree, with both drivers."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cluster import wait_until
from tests.hosts.gateway import NODE, PATIENCE_S

MI = 1 << 20
LIMITED = {"limits": {"cpu": "255m", "memory": "64Mi"}}
ASKING = {"requests": {"cpu": "500m", "memory": "32Mi"}}
FILES = ("cpu.weight", "cpu.max", "memory.max", "pids.max")


@pytest.fixture(scope="module", params=["systemd", "cgroupfs"])
def driver(request, gateway):
    """Containers in cgroups that systemd makes, then in those that are made past it."""
    gateway.configure(pids_limit=300)
    gateway.use_cgroups_of(systemd=request.param == "systemd")
    yield request.param
    gateway.configure()
    gateway.use_cgroups_of(systemd=True)


def place(driver, found, level=""):
    """Return the cgroup of a pod."""
    uid = found["metadata"]["uid"]
    if driver == "cgroupfs":
        return "/".join(part for part in ("kubepods", level, f"pod{uid}") if part)
    base = f"kubepods-{level}" if level else "kubepods"
    parts = ["kubepods.slice", f"{base}.slice", f"{base}-pod{uid.replace('-', '_')}.slice"]
    return "/".join(dict.fromkeys(parts))


def inside(gateway, driver, found, level=""):
    """Return the cgroup of a pod's one container."""
    bare = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    name = bare if driver == "cgroupfs" else f"cri-containerd-{bare}.scope"
    return f"{place(driver, found, level)}/{name}"


def test_pods_and_containers_have_their_limits_and_keep_them(gateway, driver):
    full = gateway.start("full", container={"resources": LIMITED})
    some = gateway.start("some", container={"resources": ASKING})
    none = gateway.start("none")

    def found():
        return [
            gateway.cgroup(place(driver, pod, level), *FILES)
            for pod, level in ((full, ""), (some, "burstable"), (none, "besteffort"))
        ]

    quota = 26_000 if driver == "systemd" else 25_500  # systemd counts in percent
    expected = [
        {"cpu.weight": "10", "cpu.max": f"{quota} 100000", "memory.max": str(64 * MI), "pids.max": "300"},
        {"cpu.weight": "20", "cpu.max": "max 100000", "memory.max": "max", "pids.max": "300"},
        {"cpu.weight": "1", "cpu.max": "max 100000", "memory.max": "max", "pids.max": "300"},
    ]  # fmt: skip
    assert found() == expected
    own = gateway.cgroup(inside(gateway, driver, full), "cpu.max", "memory.max", "memory.oom.group")
    assert own["memory.max"] == str(64 * MI)
    assert own["memory.oom.group"] == "1"
    assert own["cpu.max"].split()[0] in (str(quota), "25500")
    weight = gateway.cgroup(place(driver, some, "burstable").rpartition("/")[0], "cpu.weight")
    assert weight == {"cpu.weight": "20"}
    gateway.run("systemctl daemon-reload")
    assert found() == expected
    gateway.delete("full", "some", "none")
    listed = gateway.run(
        "find /sys/fs/cgroup -type d -path '*kubepods*pod*' -name '*pod*-*' || true"
    )
    uids = [p["metadata"]["uid"] for p in (full, some, none)]
    assert not [u for u in uids if u in listed or u.replace("-", "_") in listed]


def test_a_container_beyond_its_memory_is_killed_as_a_whole_and_told_so(gateway, driver):
    script = "tail /dev/zero & wait $!; echo survived; sleep 1000"
    gateway.start(
        "greedy", script, phase="Failed", container={"resources": {"limits": {"memory": "24Mi"}}}
    )
    ended = gateway.kubectl.container("greedy")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert "survived" not in gateway.kubectl("logs", "greedy")
    gateway.delete("greedy")


def test_stats_come_from_the_files_of_version_2(gateway, driver):
    gateway.start("busy", "while :; do :; done", container={"resources": LIMITED})

    def measured():
        done = gateway.kubectl.run("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/stats/summary")
        if done.returncode:  # the node has just come back
            return None
        pods = {p["podRef"]["name"]: p for p in json.loads(done.stdout)["pods"]}
        part = (pods.get("busy", {}).get("containers") or [{}])[0]
        # Its limit is 255 millicores; the first reading has all of the start in it.
        used = part.get("cpu", {}).get("usageNanoCores", 0)
        return part if 50_000_000 < used < 400_000_000 else None

    part = wait_until("stats of a busy container", measured, PATIENCE_S)
    assert 0 < part["memory"]["workingSetBytes"] < 64 * MI
    assert part["memory"]["availableBytes"] < 64 * MI
    gateway.delete("busy")


def test_a_node_short_of_memory_says_so_and_evicts(gateway):
    gateway.start("victim", restart="Always")
    gateway.configure(eviction_hard={"memory.available": "1950Mi"})  # of 2 GiB
    gateway.run("systemctl restart edgecore", timeout_s=PATIENCE_S)
    wait_until("evicted", lambda: gateway.kubectl.pod_phase("victim") == "Failed", PATIENCE_S)
    status = gateway.kubectl.get("pod", "victim")["status"]
    assert status["reason"] == "Evicted"
    assert "The node was low on resource: memory" in status["message"]
    conditions = gateway.kubectl.get("node", NODE)["status"]["conditions"]
    assert {c["type"]: c["status"] for c in conditions}["MemoryPressure"] == "True"
    gateway.delete("victim")
    gateway.configure()
    gateway.run("systemctl restart edgecore", timeout_s=PATIENCE_S)

    def relieved():
        conditions = gateway.kubectl.get("node", NODE)["status"]["conditions"]
        return {c["type"]: c["status"] for c in conditions}["MemoryPressure"] == "False"

    wait_until("no pressure", relieved, PATIENCE_S)
