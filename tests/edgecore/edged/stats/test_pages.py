"""Summary and Prometheus pages, from a runtime in memory and this machine's own /proc."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgecore.edged.runtime import ContainerConfig, PodIdentity, SandboxConfig
from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.provider import NodeStats
from edgecore.edged.usage import ContainerUsage, ImageFilesystem
from tests.fakes.runtime import FakeRuntime

POD = PodIdentity("default", 'we"b', "u-1")


@pytest.fixture
def runtime(clock):
    return FakeRuntime(clock, "busybox:1")


@pytest.fixture
def stats(tmp_path, clock, runtime):
    collector = Collector(
        runtime, "edge-1", volume_root=tmp_path / "pods", log_root=tmp_path / "logs",
        disk_use_keep_s=0, clock=clock, claims=lambda: {("u-1", "data"): "my-claim"},
    )  # fmt: skip
    return NodeStats(collector, clock=clock)


async def start(runtime, *names):
    config = SandboxConfig(POD, 0, "web", "", {}, {})
    sandbox = await runtime.run_sandbox(config)
    for name in names:
        made = await runtime.create_container(
            sandbox, ContainerConfig(name, 0, "busybox:1"), config
        )
        await runtime.start_container(made)
        yield made


def samples(page):
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }


async def test_the_summary_tells_of_node_and_pods(stats, runtime, clock, tmp_path):
    ids = [i async for i in start(runtime, "app", "side")]
    runtime.usage[ids[0]] = ContainerUsage(
        ids[0], 0, clock(), 2_000_000_000, 500, 700, 400, layer_bytes=4096, layer_inodes=3
    )
    runtime.image_fs = ImageFilesystem(str(tmp_path), 12345, 9)
    (tmp_path / "pods/u-1/volumes/kubernetes.io~empty-dir/data").mkdir(parents=True)
    (tmp_path / "pods/u-1/volumes/kubernetes.io~empty-dir/data/f").write_bytes(b"x" * 5000)
    store = tmp_path / "pods/u-1/claims/store"
    store.parent.mkdir()
    store.write_text(json.dumps({"name": "pv", "host_path": {"path": str(tmp_path)}}))
    (tmp_path / 'logs/default_we"b_u-1/app').mkdir(parents=True)
    (tmp_path / 'logs/default_we"b_u-1/app/0.log').write_bytes(b"x" * 5000)
    summary = json.loads(json.dumps(await stats.summary()))
    node, (pod,) = summary["node"], summary["pods"]
    assert node["nodeName"] == "edge-1"
    assert node["memory"]["workingSetBytes"] > 0
    assert node["cpu"]["usageCoreNanoSeconds"] > 0
    assert node["fs"]["capacityBytes"] > node["fs"]["usedBytes"] > 0
    assert node["runtime"]["imageFs"]["usedBytes"] == 12345
    assert node["rlimit"]["maxpid"] > node["rlimit"]["curproc"] > 0
    assert pod["podRef"] == {"name": 'we"b', "namespace": "default", "uid": "u-1"}
    app = next(c for c in pod["containers"] if c["name"] == "app")
    assert app["memory"]["workingSetBytes"] == 500
    assert app["rootfs"]["usedBytes"] == 4096
    assert app["logs"]["usedBytes"] >= 5000
    volume, claimed = pod["volume"]
    assert claimed["name"] == "store"
    assert claimed["capacityBytes"] == node["fs"]["capacityBytes"]
    assert volume["name"] == "data"
    assert volume["pvcRef"] == {"name": "my-claim", "namespace": "default"}
    assert volume["usedBytes"] >= 5000
    storage = pod["ephemeral-storage"]["usedBytes"]
    assert storage == 4096 + app["logs"]["usedBytes"] + volume["usedBytes"]


async def test_the_rate_of_cpu_is_between_two_readings(stats, runtime, clock):
    ids = [i async for i in start(runtime, "app")]
    clock.now_s += 10
    runtime.usage[ids[0]] = ContainerUsage(ids[0], 0, clock(), cpu_ns=1_000_000_000)
    first = (await stats.summary())["pods"][0]["cpu"]
    assert first["usageNanoCores"] == 100_000_000  # a second of ten since it started
    clock.now_s += 10
    runtime.usage[ids[0]] = replace(runtime.usage[ids[0]], time_s=clock(), cpu_ns=6_000_000_000)
    second = (await stats.summary())["pods"][0]["cpu"]
    assert second["usageNanoCores"] == 500_000_000
    clock.now_s += 0.5
    runtime.usage.clear()
    assert (await stats.summary())["pods"][0]["cpu"] == second  # within a second: the same reading


async def test_the_resource_page_parses_and_names_containers_pods_and_node(stats, runtime, clock):
    ids = [i async for i in start(runtime, "app")]
    runtime.usage[ids[0]] = ContainerUsage(ids[0], 0, clock(), 3_000_000_000, 500)
    found = samples(await stats.resource_metrics())
    pod = (("namespace", "default"), ("pod", 'we"b'))
    container = (("container", "app"), *pod)
    assert found["container_cpu_usage_seconds_total", container] == 3.0
    assert found["container_memory_working_set_bytes", container] == 500
    assert found["container_start_time_seconds", container] == clock()
    assert found["pod_cpu_usage_seconds_total", pod] == 3.0
    assert found["pod_memory_working_set_bytes", pod] == 500
    assert found["node_memory_working_set_bytes", ()] > 0
    assert found["node_cpu_usage_seconds_total", ()] > 0
    assert found["resource_scrape_error", ()] == 0


async def test_the_cadvisor_page_has_what_dashboards_read(stats, runtime, clock):
    ids = [i async for i in start(runtime, "app")]
    runtime.usage[ids[0]] = ContainerUsage(
        ids[0], 0, clock(), 3_000_000_000, 500, 600, 400, 4096, 1
    )
    page = await stats.cadvisor_metrics()
    found = samples(page)
    names = {name for name, _ in found}
    assert names >= {
        "container_cpu_usage_seconds_total", "container_memory_working_set_bytes",
        "container_memory_rss", "container_memory_cache", "container_fs_usage_bytes",
        "container_start_time_seconds", "machine_cpu_cores", "machine_memory_bytes",
    }  # fmt: skip
    of_app = {n: v for (n, labels), v in found.items() if ("container", "app") in labels}
    assert of_app["container_memory_working_set_bytes"] == 500
    assert of_app["container_memory_rss"] == 400
    assert of_app["container_cpu_usage_seconds_total"] == 3.0


async def test_without_a_runtime_the_machine_still_tells(stats, runtime):
    runtime.down = True
    summary = await stats.summary()
    assert summary["pods"] == []
    assert summary["node"]["memory"]["workingSetBytes"] > 0
    assert samples(await stats.resource_metrics())["resource_scrape_error", ()] == 1
