"""Refusals in kubelet's words."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.admission.decide import NodeFacts, decide
from edgecore.edged.admission.demands import Demands, demands_of
from edgecore.edged.spec.podspec import decode_pod
from tests.fakes.pods import container, pod_object

NODE = NodeFacts(
    "edge-1",
    {"cpu": Decimal(2), "memory": Decimal(1 << 30), "pods": Decimal(3), "acme.com/gpu": Decimal(1)},
    labels={"site": "north", "slots": "8"},
    taints=[{"key": "maintenance", "value": "now", "effect": "NoExecute"}],
)
CALM = NodeFacts("edge-1", NODE.allocatable, NODE.labels, ())


def demands(uid="u-1", *, requests=None, limits=None, metadata=None, **spec):
    resources = {"requests": requests or {}, "limits": limits or {}}
    spec.setdefault("containers", [container(resources=resources)])
    obj = pod_object(uid=uid, metadata=metadata, **spec)
    return demands_of(*decode_pod(json.dumps(obj).encode()))


def term(key, operator, *values):
    expression = {"key": key, "operator": operator, "values": list(values)}
    terms = [{"matchExpressions": [expression]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"nodeAffinity": required}


def test_cpu_that_is_taken_is_out():
    others = [demands("u-2", requests={"cpu": "1500m"})]
    refusal = decide(demands(requests={"cpu": "750m"}), CALM, others)
    assert refusal.reason == "OutOfcpu"
    assert refusal.message == (
        "Node didn't have enough resource: cpu, requested: 750, used: 1500, capacity: 2000"
    )
    assert refusal.shortage == {"cpu": Decimal("0.25")}
    assert decide(demands(requests={"cpu": "500m"}), CALM, others) is None


def test_memory_and_extended_resources_are_out_in_their_own_units():
    refusal = decide(demands(limits={"memory": "2Gi"}), CALM, ())
    assert (refusal.reason, refusal.message) == (
        "OutOfmemory",
        (
            "Node didn't have enough resource: memory, requested: 2147483648, used: 0, "
            "capacity: 1073741824"
        ),
    )
    others = [demands("u-2", limits={"acme.com/gpu": "1"})]
    assert decide(demands(limits={"acme.com/gpu": "1"}), CALM, others).reason == "OutOfacme.com/gpu"


def test_an_extended_resource_that_the_node_does_not_have_is_not_its_to_count():
    assert decide(demands(limits={"acme.com/other": "5"}), CALM, ()) is None


def test_the_number_of_pods_is_a_resource():
    others = [demands(f"u-{n}") for n in range(2, 5)]
    refusal = decide(demands(), CALM, others)
    assert refusal.reason == "OutOfpods"
    assert "requested: 1, used: 3, capacity: 3" in refusal.message


def test_init_containers_count_one_at_a_time_and_sidecars_beside_them():
    def asks(name, cpu, **fields):
        return container(name, resources={"requests": {"cpu": cpu}}, **fields)

    asked = demands(
        initContainers=[asks("side", "300m", restartPolicy="Always"), asks("first", "1")],
        containers=[asks("app", "200m"), asks("more", "400m")],
        overhead={"cpu": "50m"},
    )
    assert asked.requests["cpu"] == Decimal("1.35")  # 300m + 1 while `first` runs, and the overhead


def test_a_host_port_is_taken_once():
    def ports(uid, **port):
        port = {"containerPort": 80, **port}
        return demands(uid, containers=[container(ports=[port])])

    held = [ports("u-2", hostPort=8080, hostIP="127.0.0.1")]
    refusal = decide(ports("u-1", hostPort=8080), CALM, held)
    assert refusal.reason == "NodePorts"
    assert refusal.message == (
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    )
    assert decide(ports("u-1", hostPort=8080, hostIP="127.0.0.2"), CALM, held) is None
    assert decide(ports("u-1", hostPort=8080, protocol="UDP"), CALM, held) is None
    assert decide(ports("u-1"), CALM, held) is None


@pytest.mark.parametrize(
    ("spec", "taken"),
    [
        ({"nodeSelector": {"site": "north"}}, True),
        ({"nodeSelector": {"site": "south"}}, False),
        ({"affinity": term("site", "In", "north", "west")}, True),
        ({"affinity": term("site", "NotIn", "north")}, False),
        ({"affinity": term("none", "NotIn", "north")}, True),
        ({"affinity": term("site", "Exists")}, True),
        ({"affinity": term("none", "Exists")}, False),
        ({"affinity": term("none", "DoesNotExist")}, True),
        ({"affinity": term("slots", "Gt", "7")}, True),
        ({"affinity": term("slots", "Lt", "8")}, False),
        ({"affinity": term("site", "Gt", "1")}, False),
        ({"affinity": term("site", "Unheard", "1")}, False),
    ],
)
def test_labels_of_the_node_must_match(spec, taken):
    refusal = decide(demands(**spec), CALM, ())
    assert (refusal is None) is taken
    if refusal is not None:
        assert refusal.reason == "NodeAffinity"
        assert refusal.message == (
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        )


def test_labels_that_are_not_known_refuse_nobody():
    unknown = NodeFacts("edge-1", NODE.allocatable)
    assert decide(demands(nodeSelector={"site": "south"}), unknown, ()) is None


def test_a_taint_that_evicts_refuses_who_does_not_tolerate_it():
    refusal = decide(demands(), NODE, ())
    assert refusal.reason == "TaintToleration"
    assert refusal.message.endswith("node(s) had taints that the pod didn't tolerate")
    tolerations = [{"key": "maintenance", "value": "now", "effect": "NoExecute"}]
    assert decide(demands(tolerations=tolerations), NODE, ()) is None
    assert decide(demands(tolerations=[{"operator": "Exists"}]), NODE, ()) is None
    assert decide(demands(tolerations=[{"key": "maintenance", "value": "x"}]), NODE, ()) is not None
    from_file = {"annotations": {"kubernetes.io/config.source": "file"}}
    assert decide(demands(metadata=from_file), NODE, ()) is None


@pytest.mark.parametrize(
    ("pressures", "asked", "taken"),
    [
        (["MemoryPressure"], demands(), False),
        (["MemoryPressure"], demands(requests={"cpu": "1m"}), True),
        (
            ["MemoryPressure"],
            demands(
                tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]
            ),
            True,
        ),
        (["DiskPressure"], demands(requests={"cpu": "1m"}), False),
        (["DiskPressure"], demands(priority=2_000_000_000), True),
    ],
)
def test_under_pressure_only_some_are_taken(pressures, asked, taken):
    node = NodeFacts("edge-1", NODE.allocatable, pressures=tuple(pressures))
    refusal = decide(asked, node, ())
    assert (refusal is None) is taken
    if refusal is not None:
        assert refusal.reason == "Evicted"
        assert refusal.message == f"The node had condition: [{pressures[0]}]. "


def test_a_pod_of_another_system_or_that_cannot_be_judged_is_refused():
    assert decide(demands(os={"name": "windows"}), CALM, ()).reason == "PodOSNotSupported"
    labelled = {"labels": {"kubernetes.io/os": "windows"}}
    refused = decide(demands(metadata=labelled), CALM, ())
    assert refused.reason == "PodOSSelectorNodeLabelDoesNotMatch"
    odd = decide(demands(nodeSelector={"a": 1}), CALM, ())
    assert odd.reason == "UnexpectedAdmissionError"
    assert odd.message.startswith("Allocate failed due to Expected str")


amounts = st.integers(0, 4000).map(lambda milli: Decimal(milli) / 1000)
pods = st.builds(
    lambda uid, cpu: Demands(str(uid), "p", "d", {"cpu": cpu}), st.integers(0, 10**6), amounts
)


@given(st.lists(pods, max_size=8), pods)
def test_who_is_taken_never_makes_more_than_there_is(others, asked):
    taken = []
    for pod in (*others, asked):
        if decide(pod, CALM, taken) is None:
            taken.append(pod)
    assert sum(p.requests["cpu"] for p in taken) <= 2
    assert len(taken) <= 3
