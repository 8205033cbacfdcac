"""Points 1 to 4 of the tour: a node, pods, their configuration, and a device, all through the real kubectl."""

from __future__ import annotations

import base64
import json
import os
import time

import pytest

from tests.e2e.cluster import container_log, pod, wait_until

COLUMNS = (
    "NAME",
    "STATUS",
    "VERSION",
    "INTERNAL-IP",
    "OS-IMAGE",
    "KERNEL-VERSION",
    "CONTAINER-RUNTIME",
)
# A property of the demo lamp that the cloud may set.
LAMP_PROPERTY = "power"


@pytest.fixture
def pods(kubectl):
    """Apply pods; they are deleted with the test."""
    names = []

    def apply(*objects):
        names.extend(obj["metadata"]["name"] for obj in objects)
        kubectl.apply(*objects)

    yield apply
    if names:
        kubectl.delete("pod", *names)


# -- 1: the node --


def test_get_nodes_shows_edge_1_ready_with_version_os_addresses_and_runtime(kubectl, runtime):
    header, row = kubectl("get", "nodes", "-o", "wide").splitlines()[:2]
    assert [column for column in COLUMNS if column not in header] == []
    assert row.split()[:2] == ["edge-1", "Ready"]
    assert "<none>" not in row.split()[3:6]
    assert ("containerd://" if runtime == "cri" else "process://") in row
    about = kubectl.get("node", "edge-1")["status"]["nodeInfo"]
    assert all(about[key] for key in ("osImage", "kernelVersion", "kubeletVersion", "architecture"))


def test_describe_node_reads_as_for_any_node(kubectl):
    text = kubectl("describe", "node", "edge-1")
    sections = ("Conditions:", "Addresses:", "Capacity:", "Allocatable:", "System Info:", "Lease:")
    assert [section for section in sections if section not in text] == []
    assert "MemoryPressure" in text
    assert "Non-terminated Pods:" in text


# -- 2: a pod --


def test_a_pod_runs_with_an_address_and_a_watch_follows_it(kubectl, pods, tmp_path):
    path = tmp_path / "watch"
    with path.open("wb") as out:
        watch = kubectl.watch("pods", "-o", "wide", out=out)
        try:
            pods(pod("follow", "trap 'exit 0' TERM; sleep 3; exit 0"))
            wait_until("Running", lambda: kubectl.pod_phase("follow") == "Running")
            assert kubectl.get("pod", "follow")["status"]["podIP"]
            wait_until("Succeeded", lambda: kubectl.pod_phase("follow") == "Succeeded")
            wait_until("the watch shows its end", lambda: "Completed" in path.read_text(), 5)
        finally:
            watch.terminate()
            watch.wait(5)
    assert "Running" in path.read_text()


def test_a_pod_has_an_address_of_its_own_or_its_hosts(kubectl, pods, runtime):
    pods(pod("address", "sleep 60"))
    wait_until("Running", lambda: kubectl.pod_phase("address") == "Running")
    status = kubectl.get("pod", "address")["status"]
    assert (status["podIP"] == status["hostIP"]) == (runtime == "process")


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_exits_ends_with_its_exit_code(kubectl, pods, code, phase):
    name = f"exits-{code}"
    pods(pod(name, f"exit {code}"))
    wait_until(phase, lambda: kubectl.pod_phase(name) == phase)
    assert kubectl.container(name)["state"]["terminated"]["exitCode"] == code


def test_a_failing_container_is_restarted_and_counted(kubectl, pods):
    pods(pod("restarts", "exit 1", restart="Always"))
    wait_until("a restart", lambda: kubectl.container("restarts").get("restartCount", 0) >= 1, 40)


def test_a_pod_that_ignores_sigterm_is_gone_after_its_grace_period(kubectl, pods):
    pods(pod("deaf", "trap '' TERM; while :; do sleep 0.2; done", grace_s=3))
    wait_until("Running", lambda: kubectl.pod_phase("deaf") == "Running")
    begun = time.monotonic()
    kubectl.delete("pod", "deaf")
    assert 2.0 < time.monotonic() - begun < 12.0


def test_a_pod_that_takes_sigterm_is_gone_before_its_grace_period_ends(kubectl, pods):
    pods(pod("polite", "trap 'exit 0' TERM; while :; do sleep 0.2; done", grace_s=30))
    wait_until("Running", lambda: kubectl.pod_phase("polite") == "Running")
    begun = time.monotonic()
    kubectl.delete("pod", "polite")
    assert time.monotonic() - begun < 10.0


# -- 3: configuration --


def test_a_pod_sees_its_config_map_and_secret_and_an_update_reaches_the_file(
    kubectl, pods, up, runtime
):
    kubectl.apply(_config_map("first"), _secret("s3cret"))
    pods(_configured_pod())
    wait_until("Running", lambda: kubectl.pod_phase("configured") == "Running")

    def log():
        return container_log(up.node_logs, kubectl.get("pod", "configured"))

    wait_until("the environment", lambda: "env=first/s3cret" in log(), 10)
    if runtime == "process" and os.geteuid() != 0:
        return  # mounts of plain processes need root
    wait_until("the files", lambda: "files=first/s3cret" in log(), 10)
    kubectl.apply(_config_map("second"))
    wait_until("the update in the file", lambda: "files=second/s3cret" in log(), 30)
    assert kubectl.container("configured")["restartCount"] == 0
    kubectl("delete", "configmap/greeting", "secret/password")


def _config_map(word):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "greeting"},
        "data": {"word": word},
    }


def _secret(word):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "password"},
        "data": {"word": base64.b64encode(word.encode()).decode()},
    }


def _configured_pod():
    script = (
        "trap 'exit 0' TERM; echo env=$GREETING/$PASSWORD; "
        "while :; do echo files=$(cat /etc/e2e-greeting/word)/$(cat /etc/e2e-password/word); "
        "sleep 0.5; done"
    )
    return pod(
        "configured",
        script,
        container={
            "env": [
                {
                    "name": "GREETING",
                    "valueFrom": {"configMapKeyRef": {"name": "greeting", "key": "word"}},
                },
                {
                    "name": "PASSWORD",
                    "valueFrom": {"secretKeyRef": {"name": "password", "key": "word"}},
                },
            ],
            "volumeMounts": [
                {"name": "greeting", "mountPath": "/etc/e2e-greeting"},
                {"name": "password", "mountPath": "/etc/e2e-password"},
            ],
        },
        spec={
            "volumes": [
                {"name": "greeting", "configMap": {"name": "greeting"}},
                {"name": "password", "secret": {"secretName": "password"}},
            ]
        },
    )


# -- 4: a device --


def test_a_desired_value_reaches_the_leaf_device_and_its_report_comes_back(
    kubectl, leaf_device, lamp_objects
):
    objects = lamp_objects("lamp-02")
    kubectl.apply(*objects)
    leaf_device("lamp-02")
    try:
        for word in ("false", "true"):
            kubectl("patch", "device", "lamp-02", "--type", "merge", "-p", _desired(objects, word))
            wait_until(
                f"the lamp reports {word}",
                lambda word=word: kubectl.reported("lamp-02", LAMP_PROPERTY) == word,
                20,
            )
    finally:
        kubectl.delete("device", "lamp-02")


def test_get_devices_shows_where_a_device_is_and_how_it_does(kubectl):
    header, row = kubectl("get", "devices", "lamp-01").splitlines()
    assert header.split()[:4] == ["NAME", "NODE", "MODEL", "STATE"]
    assert header.split()[-1] == "AGE"
    assert row.split()[0:2] == ["lamp-01", "edge-1"]
    assert row.split()[3] == "online"


def _desired(objects, word):
    """Return a merge patch; lists are replaced as a whole, so it holds every property of the device."""
    (device,) = (obj for obj in objects if obj["kind"] == "Device")
    properties = json.loads(json.dumps(device["spec"]["properties"]))
    for entry in properties:
        if entry["name"] == LAMP_PROPERTY:
            entry["desired"] = {"value": word}
    return json.dumps({"spec": {"properties": properties}})
