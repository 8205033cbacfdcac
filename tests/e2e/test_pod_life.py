"""A pod's life as kubectl shows it: probes, hooks, gates, deadlines, changes in place, static pods."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.e2e.cluster import pod, wait_until

pytestmark = pytest.mark.timeout(300)

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
LONG_S = 90.0


def condition(kubectl, name, kind):
    found = (kubectl.get("pod", name) or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in found if c["type"] == kind), None)


def events(kubectl, name):
    found = kubectl.get("events", "--field-selector", f"involvedObject.name={name}")
    return {(e["reason"], e["message"]) for e in (found or {}).get("items", [])}


def patch(kubectl, name, tree, *more):
    kubectl("patch", "pod", name, "--type", "merge", "-p", json.dumps(tree), *more)


def test_a_plain_pod_runs_without_a_warning(kubectl):
    kubectl.apply(pod("plain", "sleep 0.2"))
    wait_until("ended", lambda: kubectl.pod_phase("plain") == "Succeeded", LONG_S)
    wait_until("Events", lambda: "Started" in {reason for reason, _ in events(kubectl, "plain")})
    found = kubectl.get("events", "--field-selector", "involvedObject.name=plain,type=Warning")
    assert not (found or {}).get("items")
    kubectl.delete("pod", "plain")


def test_a_failing_liveness_probe_restarts_its_container_and_says_so(kubectl):
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    kubectl.apply(pod("sick", FOREVER, restart="Always", container={"livenessProbe": probe}))
    wait_until("restarted", lambda: kubectl.container("sick").get("restartCount", 0) > 0, LONG_S)
    wanted = ("Killing", "Container main failed liveness probe, will be restarted")
    wait_until("the Event", lambda: wanted in events(kubectl, "sick"), LONG_S)
    assert ("Unhealthy", "Liveness probe failed: ") in events(kubectl, "sick")
    kubectl.delete("pod", "sick")


def test_a_readiness_gate_opens_when_its_condition_is_set(kubectl):
    gates = {"readinessGates": [{"conditionType": "example.com/open"}]}
    kubectl.apply(pod("gated", FOREVER, spec=gates))
    wait_until(
        "containers are ready",
        lambda: condition(kubectl, "gated", "ContainersReady") == "True",
        LONG_S,
    )
    assert condition(kubectl, "gated", "Ready") == "False"
    set_to = {"type": "example.com/open", "status": "True"}
    conditions = [*kubectl.get("pod", "gated")["status"]["conditions"], set_to]
    patch(kubectl, "gated", {"status": {"conditions": conditions}}, "--subresource=status")
    wait_until("ready", lambda: condition(kubectl, "gated", "Ready") == "True", LONG_S)
    kubectl.delete("pod", "gated")


def test_a_deadline_set_while_a_pod_runs_ends_it(kubectl):
    kubectl.apply(pod("late", FOREVER))
    wait_until("runs", lambda: kubectl.pod_phase("late") == "Running", LONG_S)
    patch(kubectl, "late", {"spec": {"activeDeadlineSeconds": 1}})
    wait_until("failed", lambda: kubectl.pod_phase("late") == "Failed", LONG_S)
    assert kubectl.get("pod", "late")["status"]["reason"] == "DeadlineExceeded"
    kubectl.delete("pod", "late")


def test_a_forced_delete_leaves_nothing_behind(kubectl, up):
    kubectl.apply(pod("gone", "trap '' TERM; while :; do sleep 0.2; done", grace_s=600))
    wait_until("runs", lambda: kubectl.pod_phase("gone") == "Running", LONG_S)
    uid = kubectl.get("pod", "gone")["metadata"]["uid"]
    kubectl("delete", "pod", "gone", "--force", "--grace-period=0")
    assert kubectl.get("pod", "gone") is None
    kubectl.apply(pod("gone", FOREVER))  # its name is free at once
    wait_until("the next one runs", lambda: kubectl.pod_phase("gone") == "Running", LONG_S)
    assert kubectl.get("pod", "gone")["metadata"]["uid"] != uid
    kubectl.delete("pod", "gone")


def test_a_static_pod_is_mirrored_and_outlives_its_mirror(kubectl, up):
    manifest = pod("fixed", FOREVER, restart="Always")
    del manifest["spec"]["nodeSelector"]
    folder = up.state / "nodes" / "edge-1" / "manifests"
    folder.mkdir(exist_ok=True)
    (folder / "fixed.yaml").write_text(yaml.safe_dump(manifest))
    name = "fixed-edge-1"
    wait_until("its mirror runs", lambda: kubectl.pod_phase(name) == "Running", LONG_S)
    mirror = kubectl.get("pod", name)
    annotations = mirror["metadata"]["annotations"]
    assert annotations["kubernetes.io/config.source"] == "file"
    assert mirror["metadata"]["ownerReferences"][0]["kind"] == "Node"
    before = kubectl.container(name)
    kubectl("delete", "pod", name, "--wait=false")

    def mirrored_again():
        found = kubectl.get("pod", name)
        there = found and found["metadata"]["uid"] != mirror["metadata"]["uid"]
        return there and kubectl.container(name).get("containerID") == before["containerID"]

    wait_until("another mirror of the same container", mirrored_again, LONG_S)
    (folder / "fixed.yaml").unlink()
    wait_until("the mirror is gone", lambda: kubectl.get("pod", name) is None, LONG_S)
