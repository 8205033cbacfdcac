import pytest

from kubecore.controllers.nodehealth import (
    heartbeat_of,
    not_ready_patch,
    silence_patch,
    taints_patch,
)

NOW = 1_700_000_000.0
STAMP = "2023-11-14T22:13:20Z"


def node(ready="True", *, taints=(), extra=(), **spec):
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "then"}] if ready else []
    return {
        "metadata": {"name": "n", "creationTimestamp": "made"},
        "spec": {"taints": list(taints), **spec},
        "status": {"conditions": [*conditions, *extra]},
    }


def keys(patch):
    return [(t["key"].rpartition("/")[2], t["effect"]) for t in patch["spec"]["taints"] or []]


def test_a_silent_node_becomes_unknown_in_the_words_of_kubernetes():
    conditions = silence_patch(node(), NOW)["status"]["conditions"]
    assert conditions[0] == {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
        "lastTransitionTime": STAMP,
    }
    assert [c["type"] for c in conditions[1:]] == ["MemoryPressure", "DiskPressure", "PIDPressure"]
    assert conditions[1]["reason"] == "NodeStatusNeverUpdated"
    assert conditions[1]["lastHeartbeatTime"] == "made"


def test_a_node_that_is_unknown_already_is_left_alone():
    others = [
        {"type": t, "status": "Unknown"} for t in ("MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    assert silence_patch(node("Unknown", extra=others), NOW) is None


OURS = [
    {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
    {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
]
THEIRS = {"key": "k", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("given", "taints"),
    [
        (node("Unknown"), [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")]),
        (node("False"), [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]),
        (node(None), [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]),
        (node("True", taints=OURS), []),
        (node("True", taints=[THEIRS, *OURS]), [("k", "NoSchedule")]),
        (node("True", unschedulable=True), [("unschedulable", "NoSchedule")]),
        (
            node("True", extra=[{"type": "DiskPressure", "status": "True"}]),
            [("disk-pressure", "NoSchedule")],
        ),
    ],
)
def test_the_taints_of_a_node_follow_its_conditions(given, taints):
    assert keys(taints_patch(given, NOW)) == taints


@pytest.mark.parametrize(
    "given", [node("True"), node("Unknown", taints=OURS), node("True", taints=[THEIRS])]
)
def test_taints_that_are_right_stay(given):
    assert taints_patch(given, NOW) is None


def test_our_own_verdict_is_no_sign_of_life():
    marked = node("Unknown")
    marked["status"]["conditions"][0]["reason"] = "NodeStatusUnknown"
    assert heartbeat_of(node()) == "then"
    assert heartbeat_of(marked) is None


def test_only_a_ready_pod_is_marked_not_ready():
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert not_ready_patch(ready, NOW)["status"]["conditions"][0]["status"] == "False"
    assert not_ready_patch({"status": {}}, NOW) is None
