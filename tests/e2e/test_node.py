"""The node's own say, seen through kubectl: what it has, whom it refuses, and in which words."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import pod, wait_until

FOREVER = "exec sleep 1000"


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


def status(kubectl, name):
    return kubectl.get("pod", name).get("status", {})


def failed(kubectl, name):
    wait_until(f"{name} failed", lambda: status(kubectl, name).get("phase") == "Failed", 60.0)
    return status(kubectl, name)


def bytes_of(quantity):
    return int(quantity.removesuffix("Ki")) << 10


def test_allocatable_is_less_than_capacity_by_what_eviction_keeps_free(kubectl):
    node = kubectl.get("node", "edge-1")["status"]
    kept = bytes_of(node["capacity"]["memory"]) - bytes_of(node["allocatable"]["memory"])
    assert kept >= 100 << 20
    assert node["capacity"]["pods"] == node["allocatable"]["pods"] == "110"
    kinds = {c["type"]: c["status"] for c in node["conditions"]}
    assert kinds["Ready"] == "True"
    assert set(kinds) >= {"MemoryPressure", "DiskPressure", "PIDPressure"}


def test_a_pod_that_asks_for_more_than_the_node_has_fails_and_an_event_says_so(kubectl, pods):
    resources = {"requests": {"cpu": "1000"}}
    # Bound by hand: the scheduler would not have given it to the node.
    bound = {"nodeName": "edge-1"}
    pods(pod("greedy", FOREVER, container={"resources": resources}, spec=bound))
    found = failed(kubectl, "greedy")
    assert found["reason"] == "OutOfcpu"
    assert found["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "
    )
    selector = "involvedObject.name=greedy,reason=OutOfcpu"
    wait_until(
        "its event",
        lambda: kubectl.get("events", "--field-selector", selector)["items"],
        60.0,
    )


def test_a_label_given_by_kubectl_is_known_to_the_node(kubectl, pods):
    kubectl("label", "node", "edge-1", "example.com/line=seven", "--overwrite")

    def wants(line):
        return {"nodeName": "edge-1", "nodeSelector": {"example.com/line": line}}

    pods(pod("on-the-line", FOREVER, spec=wants("seven")))
    wait_until("it runs", lambda: kubectl.pod_phase("on-the-line") == "Running", 60.0)
    pods(pod("elsewhere", FOREVER, spec=wants("eight")))
    found = failed(kubectl, "elsewhere")
    assert found["reason"] == "NodeAffinity"
    assert found["message"] == (
        "Pod was rejected: Predicate NodeAffinity failed: "
        "node(s) didn't match Pod's node affinity/selector"
    )
    assert kubectl.pod_phase("on-the-line") == "Running"
