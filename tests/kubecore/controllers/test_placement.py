import pytest

from kubecore.controllers.placement import Placed, Unplaced, loads_of, place
from kubecore.controllers.scheduler import is_pending, unschedulable_patch
from kubecore.values.requests import pod_requests
from tests.kubecore.samples import make_pod

READY = [{"type": "Ready", "status": "True"}]


def make_node(name="n", *, labels=None, conditions=READY, cpu="2", memory="1Gi", pods="10", **spec):
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {
            "conditions": conditions,
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods},
        },
    }


def asking(cpu="1", **spec):
    return make_pod(containers=[{"name": "a", "resources": {"requests": {"cpu": cpu}}}], **spec)


def taint(key, effect="NoSchedule", value=""):
    return {"key": key, "effect": effect, "value": value}


def affinity(*terms):
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("pod", "node", "reason"),
    [
        (make_pod(), make_node(unschedulable=True), "node(s) were unschedulable"),
        (
            make_pod(),
            make_node(taints=[taint("k", value="v")]),
            "node(s) had untolerated taint {k: v}",
        ),
        (
            make_pod(),
            make_node(taints=[taint("k", "NoExecute")]),
            "node(s) had untolerated taint {k: }",
        ),
        (
            make_pod(),
            make_node(conditions=[]),
            "node(s) had untolerated taint {node.kubernetes.io/not-ready: }",
        ),
        (
            make_pod(),
            make_node(conditions=[{"type": "Ready", "status": "Unknown"}]),
            "node(s) had untolerated taint {node.kubernetes.io/unreachable: }",
        ),
        (
            make_pod(nodeSelector={"a": "b"}),
            make_node(),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (
            make_pod(affinity=affinity(expression("a", "In", "b"))),
            make_node(labels={"a": "c"}),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (
            make_pod(affinity=affinity({})),
            make_node(),
            "node(s) didn't match Pod's node affinity/selector",
        ),
        (asking("3"), make_node(), "Insufficient cpu"),
        (make_pod(), make_node(pods="0"), "Too many pods"),
        (
            make_pod(tolerations=[{"key": "k", "value": "w"}]),
            make_node(taints=[taint("k", value="v")]),
            "node(s) had untolerated taint {k: v}",
        ),
    ],
)
def test_a_node_that_does_not_fit_is_named_in_the_schedulers_words(pod, node, reason):
    assert place(pod, [node], {}) == Unplaced(f"0/1 nodes are available: 1 {reason}.")


@pytest.mark.parametrize(
    ("pod", "node"),
    [
        (make_pod(), make_node()),
        (make_pod(), make_node(taints=[taint("k", "PreferNoSchedule")])),
        (
            make_pod(tolerations=[{"operator": "Exists"}]),
            make_node(unschedulable=True, conditions=[]),
        ),
        (
            make_pod(tolerations=[{"key": "k", "operator": "Exists"}]),
            make_node(taints=[taint("k", value="v")]),
        ),
        (
            make_pod(tolerations=[{"key": "k", "value": "v"}]),
            make_node(taints=[taint("k", value="v")]),
        ),
        (make_pod(nodeSelector={"a": "b"}), make_node(labels={"a": "b"})),
        (
            make_pod(affinity=affinity(expression("x", "Exists"), expression("a", "NotIn", "z"))),
            make_node(labels={"a": "b"}),
        ),
        (
            make_pod(
                affinity=affinity(
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}
                )
            ),
            make_node(),
        ),
        (asking("2"), make_node()),
    ],
)
def test_a_node_that_fits_is_taken(pod, node):
    assert place(pod, [node], {}) == Placed("n")


def test_the_reasons_of_all_nodes_are_counted():
    nodes = [
        make_node("a", unschedulable=True),
        make_node("b", unschedulable=True),
        make_node("c", pods="0"),
    ]
    text = "0/3 nodes are available: 1 Too many pods, 2 node(s) were unschedulable."
    assert place(make_pod(), nodes, {}) == Unplaced(text)
    assert place(make_pod(), [], {}) == Unplaced("no nodes available to schedule pods")


def test_the_least_loaded_node_is_taken():
    running = asking("1", nodeName="a")
    over = {**asking("1", nodeName="b"), "status": {"phase": "Succeeded"}}
    loads = loads_of([running, over, make_pod()])
    assert place(asking("0.5"), [make_node("a"), make_node("b")], loads) == Placed("b")
    assert place(asking("1500m"), [make_node("a")], loads) == Unplaced(
        "0/1 nodes are available: 1 Insufficient cpu."
    )


def test_a_host_port_is_given_once_per_node():
    port = {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}
    holder = make_pod(containers=[{"name": "a", "ports": [port]}], nodeName="n")
    text = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
    assert place(holder, [make_node()], loads_of([holder])) == Unplaced(text)


def test_a_pod_asks_for_its_containers_or_for_its_largest_init_container():
    def one(cpu, **fields):
        return {"name": "x", "resources": {"requests": {"cpu": cpu}}, **fields}

    pod = make_pod(
        containers=[one("1"), one("500m")],
        initContainers=[one("100m", restartPolicy="Always"), one("3")],
        overhead={"cpu": "1"},
    )
    assert float(pod_requests(pod)["cpu"]) == 4.1


@pytest.mark.parametrize(
    ("change", "pending"),
    [
        ({}, True),
        ({"spec": {"containers": [], "nodeName": "n"}}, False),
        ({"spec": {"containers": [], "schedulerName": "mine"}}, False),
        ({"spec": {"containers": [], "schedulingGates": [{"name": "g"}]}}, False),
        ({"metadata": {"name": "x", "deletionTimestamp": "now"}}, False),
        ({"status": {"phase": "Failed"}}, False),
    ],
)
def test_only_pods_that_wait_for_this_scheduler_are_tried(change, pending):
    assert is_pending(make_pod() | change) is pending


def test_a_pod_is_told_once_why_it_waits():
    pod = make_pod()
    patch = unschedulable_patch(pod, "no", 0)
    condition = patch["status"]["conditions"][0]
    assert condition["status"] == "False"
    assert condition["reason"] == "Unschedulable"
    told = {**pod, "status": patch["status"]}
    assert unschedulable_patch(told, "no", 60) is None
    again = unschedulable_patch(told, "other", 60)["status"]["conditions"][0]
    assert again["lastTransitionTime"] == condition["lastTransitionTime"]
