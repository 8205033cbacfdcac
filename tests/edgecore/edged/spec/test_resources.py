"""Classes of service and cgroup values, as kubelet computes them."""

from __future__ import annotations

import pytest

from edgecore.edged.spec.resources import (
    container_limits,
    huge_page_name,
    overhead_limits,
    pod_limits,
    qos_class,
)
from tests.fakes.pods import container, make_pod

CAPACITY = 1 << 30


def resources(requests=None, limits=None):
    return {"requests": requests or {}, "limits": limits or {}}


def app(requests=None, limits=None, name="app", **fields):
    return container(name, resources=resources(requests, limits), **fields)


FULL = {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("containers", "spec", "expected"),
    [
        ([app()], {}, "BestEffort"),
        ([app(FULL, FULL)], {}, "Guaranteed"),
        ([app(limits=FULL)], {}, "Guaranteed"),
        ([app(FULL)], {}, "Burstable"),
        ([app(limits={"cpu": 1})], {}, "Burstable"),
        ([app(FULL, FULL), app(name="b")], {}, "Burstable"),
        ([app(FULL, FULL)], {"initContainers": [app(name="i")]}, "Burstable"),
        ([app()], {"resources": resources(limits=FULL)}, "Guaranteed"),
        ([app(FULL, FULL)], {"resources": resources({"cpu": "2"})}, "Burstable"),
        ([app({"ephemeral-storage": "1Gi"})], {}, "BestEffort"),
    ],
)
def test_the_class_of_service(containers, spec, expected):
    assert qos_class(make_pod(containers=containers, **spec)) == expected


def limits_of(made, **spec):
    pod = make_pod(containers=[made], **spec)
    return container_limits(pod, pod.spec.containers[0], CAPACITY, huge_page_sizes=("2MB", "1GB"))


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        ({}, {}, (2, 0, 0)),
        ({"cpu": "250m"}, {}, (256, 0, 0)),
        ({}, {"cpu": "1500m", "memory": "64Mi"}, (1536, 150_000, 64 << 20)),
        ({"cpu": "1m"}, {"cpu": "5m"}, (2, 1_000, 0)),
        ({"cpu": "1000"}, {}, (262_144, 0, 0)),
        ({}, {"memory": "100E"}, (2, 0, (1 << 63) - 1)),
    ],
)
def test_shares_quota_and_memory(requests, limits, expected):
    found = limits_of(app(requests, limits))
    assert (found.cpu_shares, found.cpu_quota, found.memory_bytes) == expected


@pytest.mark.parametrize(
    ("made", "spec", "score"),
    [
        (app(), {}, 1000),
        (app(FULL, FULL), {}, -997),
        (app({"memory": "256Mi"}), {}, 750),
        (app({"memory": "1Gi"}), {}, 3),
        (app({"cpu": "1"}), {}, 999),
        (app(), {"priority": 2_000_001_000}, -997),
        (app(), {"priority": 2_000_000_999}, 1000),
    ],
)
def test_who_the_kernel_kills_first(made, spec, score):
    assert limits_of(made, **spec).oom_score_adj == score


def test_a_sidecar_is_not_killed_before_those_it_serves():
    sidecar = app({"memory": "1Mi"}, name="side", restartPolicy="Always")
    pod = make_pod(containers=[app({"memory": "512Mi"})], initContainers=[sidecar])
    found = container_limits(pod, pod.spec.init_containers[0], CAPACITY)
    assert found.oom_score_adj == 500


def test_huge_pages_are_limited_to_what_was_asked_for():
    found = limits_of(app(limits={"hugepages-2Mi": "4Mi", "memory": "1Gi"}))
    assert found.huge_pages == {"2MB": 4 << 20, "1GB": 0}
    assert limits_of(app()).huge_pages == {"2MB": 0, "1GB": 0}


@pytest.mark.parametrize(
    ("size", "name"),
    [("2Mi", "2MB"), ("1Gi", "1GB"), ("64Ki", "64KB"), ("2048Ki", "2MB"), ("3", "3B")],
)
def test_page_sizes_are_written_as_the_kernel_does(size, name):
    assert huge_page_name(size) == name


def test_a_pods_cgroup_has_what_its_containers_need_at_any_one_time():
    init = app({"cpu": "2"}, {"cpu": "2", "memory": "300Mi"}, name="i")
    side = app({"cpu": "100m"}, {"cpu": "100m", "memory": "10Mi"}, name="s", restartPolicy="Always")
    apps = [app(FULL, FULL), app(FULL, FULL, name="b")]
    found = pod_limits(make_pod(containers=apps, initContainers=[side, init]))
    assert found.cpu_shares == 2100 * 1024 // 1000
    assert found.cpu_quota == 210_000
    assert found.memory_bytes == 310 << 20


def test_a_pod_with_one_unlimited_container_has_no_limit():
    found = pod_limits(make_pod(containers=[app(FULL, FULL), app(name="b")]))
    assert (found.cpu_quota, found.memory_bytes) == (0, 0)
    assert found.cpu_shares == 512


def test_what_the_pod_asks_for_as_a_whole_goes_before_its_containers():
    whole = resources({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"})
    found = pod_limits(make_pod(containers=[app()], resources=whole))
    assert (found.cpu_shares, found.cpu_quota, found.memory_bytes) == (1024, 200_000, 1 << 30)


def test_the_runtime_classs_overhead_is_added():
    pod = make_pod(containers=[app(FULL, FULL)], overhead={"cpu": "250m", "memory": "120Mi"})
    found = pod_limits(pod)
    assert (found.cpu_quota, found.memory_bytes) == (75_000, 184 << 20)
    assert overhead_limits(pod).memory_bytes == 120 << 20
    assert overhead_limits(make_pod()).cpu_shares == 0
