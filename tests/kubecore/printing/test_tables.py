import pytest

from corekit.timestamps import rfc3339
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Column, Resource
from kubecore.printing.pods import pod_cells, pod_status
from kubecore.printing.tables import table

NOW = 1_700_000_000.0
REGISTRY = Registry()


def ago(seconds):
    return rfc3339(NOW - seconds)


def container(name="c", **fields):
    return {"name": name, "restartCount": 0, "ready": False, "state": {}, **fields}


def pod(status, *, init=(), count=1, **metadata):
    spec = {"containers": [{"name": f"c{i}"} for i in range(count)], "initContainers": list(init)}
    meta = {"name": "web", "creationTimestamp": ago(90), **metadata}
    return {"metadata": meta, "spec": spec, "status": status}


def ended(code=0, **fields):
    return {"terminated": {"exitCode": code, **fields}}


def waiting(reason):
    return {"waiting": {"reason": reason}}


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
READY = [{"type": "Ready", "status": "True"}]
SIDECAR = {"name": "s", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ("Pending", pod({"phase": "Pending"})),
        ("Evicted", pod({"phase": "Failed", "reason": "Evicted"})),
        ("Running", pod({"phase": "Running", "containerStatuses": [container(state=RUNNING)]})),
        (
            "CrashLoopBackOff",
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [container(state=waiting("CrashLoopBackOff"))],
                }
            ),
        ),
        (
            "ErrImageNeverPull",
            pod(
                {
                    "phase": "Pending",
                    "containerStatuses": [container(state=waiting("ErrImageNeverPull"))],
                }
            ),
        ),
        (
            "Completed",
            pod(
                {
                    "phase": "Succeeded",
                    "containerStatuses": [container(state=ended(reason="Completed"))],
                }
            ),
        ),
        (
            "Error",
            pod(
                {
                    "phase": "Failed",
                    "containerStatuses": [container(state=ended(1, reason="Error"))],
                }
            ),
        ),
        ("ExitCode:3", pod({"phase": "Failed", "containerStatuses": [container(state=ended(3))]})),
        (
            "Signal:9",
            pod({"phase": "Failed", "containerStatuses": [container(state=ended(137, signal=9))]}),
        ),
        (
            "NotReady",
            pod(
                {
                    "phase": "Running",
                    "containerStatuses": [
                        container(state=ended(reason="Completed")),
                        container(ready=True, state=RUNNING),
                    ],
                },
                count=2,
            ),
        ),
        (
            "Running",
            pod(
                {
                    "phase": "Running",
                    "conditions": READY,
                    "containerStatuses": [
                        container(state=ended(reason="Completed")),
                        container(ready=True, state=RUNNING),
                    ],
                },
                count=2,
            ),
        ),
        (
            "Init:1/2",
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [container(state=ended()), container(state=RUNNING)],
                },
                init=[{"name": "i"}, {"name": "j"}],
            ),
        ),
        (
            "Init:0/1",
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [container(state=waiting("PodInitializing"))],
                },
                init=[{"name": "i"}],
            ),
        ),
        (
            "Init:ErrImagePull",
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [container(state=waiting("ErrImagePull"))],
                },
                init=[{"name": "i"}],
            ),
        ),
        (
            "Init:Error",
            pod(
                {
                    "phase": "Pending",
                    "initContainerStatuses": [container(state=ended(1, reason="Error"))],
                },
                init=[{"name": "i"}],
            ),
        ),
        (
            "Init:ExitCode:4",
            pod(
                {"phase": "Pending", "initContainerStatuses": [container(state=ended(4))]},
                init=[{"name": "i"}],
            ),
        ),
        ("Terminating", pod({"phase": "Running"}, deletionTimestamp=ago(1))),
        ("Unknown", pod({"phase": "Running", "reason": "NodeLost"}, deletionTimestamp=ago(1))),
        ("Succeeded", pod({"phase": "Succeeded"}, deletionTimestamp=ago(1))),
        (
            "SchedulingGated",
            pod(
                {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}],
                }
            ),
        ),
    ],
)
def test_the_status_of_a_pod_reads_as_in_kubectl(shown, given):
    assert pod_status(given) == shown


def test_restarts_say_when_the_last_one_was():
    state = container(
        restartCount=2, ready=True, state=RUNNING, lastState=ended(1, finishedAt=ago(5))
    )
    cells = pod_cells(pod({"phase": "Running", "containerStatuses": [state]}), NOW)
    assert cells[:5] == ["web", "1/1", "Running", "2 (5s ago)", "90s"]


def test_a_sidecar_counts_as_a_container_and_its_restarts_stay():
    status = {
        "phase": "Running",
        "initContainerStatuses": [
            container("s", ready=True, started=True, restartCount=1, state=RUNNING),
            container("i", restartCount=7, state=ended()),
        ],
        "containerStatuses": [container(ready=True, state=RUNNING)],
    }
    cells = pod_cells(pod(status, init=[SIDECAR, {"name": "i"}]), NOW)
    assert cells[1:4] == ["2/2", "Running", "1"]


def row(plural, obj, group=""):
    resource = REGISTRY.find(group, "v1", plural)
    obj["metadata"] = {"name": "x", "creationTimestamp": ago(30), **obj.get("metadata", {})}
    shown = table(resource, [obj], list_meta={}, now_s=NOW)
    cells = shown["rows"][0]["cells"]
    assert len(cells) == len(shown["columnDefinitions"])
    return cells


INFO = {
    "kubeletVersion": "v1",
    "osImage": "Debian",
    "kernelVersion": "6",
    "containerRuntimeVersion": "c://2",
}


@pytest.mark.parametrize(
    ("node", "cells"),
    [
        ({}, ["x", "Unknown", "<none>", "30s", "", "<none>", "<none>", *["<unknown>"] * 3]),
        (
            {
                "metadata": {
                    "labels": {"node-role.kubernetes.io/edge": "", "kubernetes.io/role": "agent"}
                },
                "spec": {"unschedulable": True},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": INFO,
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                },
            },
            [
                "x",
                "Ready,SchedulingDisabled",
                "agent,edge",
                "30s",
                "v1",
                "10.0.0.1",
                "<none>",
                "Debian",
                "6",
                "c://2",
            ],
        ),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            ["x", "NotReady", "<none>", "30s", "", "<none>", "<none>", *["<unknown>"] * 3],
        ),
    ],
)
def test_nodes(node, cells):
    assert row("nodes", node) == cells


@pytest.mark.parametrize(
    ("spec", "cells"),
    [
        (
            {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 80, "protocol": "TCP"}]},
            ["x", "ClusterIP", "None", "<none>", "80/TCP", "30s", "<none>"],
        ),
        (
            {
                "type": "NodePort",
                "clusterIPs": ["10.0.0.9"],
                "selector": {"b": "2", "a": "1"},
                "ports": [{"port": 80, "nodePort": 30000}, {"port": 53, "protocol": "UDP"}],
            },
            ["x", "NodePort", "10.0.0.9", "<none>", "80:30000/TCP,53/UDP", "30s", "a=1,b=2"],
        ),
        (
            {"type": "ExternalName", "externalName": "example.com"},
            ["x", "ExternalName", "<none>", "example.com", "<none>", "30s", "<none>"],
        ),
        (
            {"type": "LoadBalancer"},
            ["x", "LoadBalancer", "<none>", "<pending>", "<none>", "30s", "<none>"],
        ),
    ],
)
def test_services(spec, cells):
    assert row("services", {"spec": spec}) == cells


@pytest.mark.parametrize(
    ("plural", "group", "obj", "cells"),
    [
        ("namespaces", "", {"status": {"phase": "Active"}}, ["x", "Active", "30s"]),
        ("configmaps", "", {"data": {"a": ""}, "binaryData": {"b": ""}}, ["x", 2, "30s"]),
        ("secrets", "", {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "30s"]),
        ("serviceaccounts", "", {}, ["x", 0, "30s"]),
        ("endpoints", "", {}, ["x", "<none>", "30s"]),
        (
            "endpoints",
            "",
            {
                "subsets": [
                    {"addresses": [{"ip": f"1.1.1.{i}"} for i in range(5)], "ports": [{"port": 80}]}
                ]
            },
            ["x", "1.1.1.0:80,1.1.1.1:80,1.1.1.2:80 + 2 more...", "30s"],
        ),
        ("leases", "coordination.k8s.io", {"spec": {"holderIdentity": "n"}}, ["x", "n", "30s"]),
        ("roles", "rbac.authorization.k8s.io", {}, ["x", ago(30)]),
        (
            "clusterrolebindings",
            "rbac.authorization.k8s.io",
            {
                "roleRef": {"kind": "ClusterRole", "name": "r"},
                "subjects": [
                    {"kind": "User", "name": "u"},
                    {"kind": "Group", "name": "g"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
                ],
            },
            ["x", "ClusterRole/r", "30s", "u", "g", "n/s"],
        ),
        (
            "events",
            "",
            {
                "type": "Warning",
                "reason": "R",
                "message": "m\n",
                "count": 3,
                "involvedObject": {"kind": "Pod", "name": "web"},
                "source": {"component": "kubelet", "host": "n"},
                "firstTimestamp": ago(60),
                "lastTimestamp": ago(10),
            },
            ["10s", "Warning", "R", "pod/web", "", "kubelet, n", "m", "60s", 3, "x"],
        ),
        (
            "events",
            "",
            {"eventTime": ago(7), "reportingComponent": "r"},
            ["7s", "", "", "/", "", "r", "", "7s", 1, "x"],
        ),
    ],
)
def test_other_kinds(plural, group, obj, cells):
    assert row(plural, obj, group) == cells


THING = Resource(
    "x.y",
    "v1",
    "things",
    "Thing",
    "thing",
    namespaced=True,
    schema={},
    custom=True,
    columns=(
        Column("Node", "string", ".spec.node"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Count", "integer", ".spec.count"),
        Column("On", "boolean", ".spec.on", priority=1),
        Column("Age", "date", ".metadata.creationTimestamp"),
    ),
)


def test_a_custom_resource_is_shown_by_its_printer_columns():
    full = {
        "metadata": {"name": "a", "creationTimestamp": ago(30)},
        "spec": {"node": "n", "count": 3.0, "on": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    empty = {"metadata": {"name": "b"}, "spec": {"node": {"deep": 1}, "count": "x"}}
    shown = table(THING, [full, empty], list_meta={"resourceVersion": "5"}, now_s=NOW)
    assert [r["cells"] for r in shown["rows"]] == [
        ["a", "n", "True", 3, True, "30s"],
        ["b", '{"deep":1}', None, None, None, None],
    ]
    assert [c["name"] for c in shown["columnDefinitions"]][:2] == ["Name", "Node"]
    assert [c["priority"] for c in shown["columnDefinitions"]] == [0, 0, 0, 0, 1, 0]
    assert shown["metadata"] == {"resourceVersion": "5"}


@pytest.mark.parametrize(
    ("include", "shown"),
    [
        ("None", None),
        ("Object", {"metadata": {"name": "a"}, "spec": {}}),
        (
            "Metadata",
            {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": {"name": "a"},
            },
        ),
    ],
)
def test_a_row_carries_as_much_of_the_object_as_was_asked_for(include, shown):
    obj = {"metadata": {"name": "a"}, "spec": {}}
    made = table(THING, [obj], include_object=include, with_columns=False, list_meta={})
    assert made["rows"][0]["object"] == shown
    assert made["columnDefinitions"] == []
