from __future__ import annotations

import asyncio
import json
import logging

import pytest

from cloudcore.edgecontroller import upstream
from cloudcore.edgecontroller.nodes import (
    AGENT_LABEL,
    DATABASE_ANNOTATION,
    Endpoint,
    recorded_database,
)
from cloudcore.edgecontroller.upstream import NodeReports
from cloudcore.kube.informer import Informers
from synccore.messages import Delta, ObjectKey, Op
from tests.cloudcore.edgecontroller.conftest import FAST
from tests.cloudcore.edgecontroller.test_controller import named, pod
from tests.fakes.kubeapi import Fault, until

LEASE = ("Lease", "kube-node-lease")
RENEWAL = {"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40}


def report(kind, namespace, name, body=None, *, uid="", op=Op.UPSERT):
    encoded = b"" if body is None else json.dumps(body).encode()
    return Delta(op, ObjectKey(kind, namespace, name), uid, 1, body=encoded)


def lease(node="edge-1", **body):
    return report("Lease", "kube-node-lease", node, RENEWAL | body)


def node_report(name, **status):
    body = {
        "metadata": {"labels": {"kubernetes.io/hostname": name}, "annotations": {"a": "b"}},
        "spec": {"taints": [{"key": "edge", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], **status},
    }
    return report("Node", "", name, body)


async def known_pod(api, cloud, name="web", node="edge-1", **metadata):
    obj = pod(name, node)
    obj["metadata"] |= metadata
    made = api.put("pods", obj)
    key = ObjectKey("Pod", "default", name)
    await until(lambda: cloud.controller._pods.get(key))
    return made["metadata"]["uid"]


# Leases.


async def test_a_lease_is_made_once_and_then_renewed_in_one_write(api, cloud):
    await cloud.reports.write("edge-1", lease())
    made = api.get("leases", "kube-node-lease", "edge-1")
    assert made["spec"] == RENEWAL | {"holderIdentity": "edge-1"}
    node_uid = api.get("nodes", "", "edge-1")["metadata"]["uid"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == node_uid
    api.requests.clear()
    await cloud.reports.write("edge-1", lease(renewTime="2026-01-01T00:00:10.000000Z"))
    writes = [s for s in api.requests if s.verb not in ("list", "watch")]
    assert [(s.verb, s.node) for s in writes] == [("patch", "edge-1")]
    renewed = api.get("leases", "kube-node-lease", "edge-1")["spec"]["renewTime"]
    assert renewed == "2026-01-01T00:00:10.000000Z"


# Nodes.


async def test_an_unknown_node_is_registered_with_labels_and_taints(api, cloud):
    await cloud.reports.write("edge-9", node_report("edge-9"))
    node = api.get("nodes", "", "edge-9")
    expected = {"kubernetes.io/hostname": "edge-9", AGENT_LABEL: "edgecore"}
    assert node["metadata"]["labels"] == expected
    assert node["spec"]["taints"] == [{"key": "edge", "effect": "NoSchedule"}]
    assert node["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    assert {s.node for s in api.sent("post") + api.sent("patch")} == {"edge-9"}


async def test_a_node_made_by_hand_keeps_its_labels_taints_and_foreign_conditions(api, cloud):
    foreign = {"type": "NetworkUnavailable", "status": "False"}
    made = {"metadata": {"name": "edge-9", "labels": {"site": "north"}}}
    api.put("nodes", made | {"status": {"conditions": [foreign]}})
    await cloud.reports.write("edge-9", node_report("edge-9"))
    node = api.get("nodes", "", "edge-9")
    assert node["metadata"]["labels"]["site"] == "north"
    assert node["metadata"]["labels"][AGENT_LABEL] == "edgecore"
    assert "spec" not in node
    types = {c["type"] for c in node["status"]["conditions"]}
    assert types == {"NetworkUnavailable", "Ready"}


async def test_a_later_report_leaves_labels_that_people_changed(api, cloud):
    await cloud.reports.write("edge-1", node_report("edge-1"))
    assert "kubernetes.io/hostname" not in api.get("nodes", "", "edge-1")["metadata"]["labels"]


async def test_addresses_that_are_gone_are_gone(api, cloud):
    for ip in ("10.0.0.1", "10.0.0.2"):
        addresses = [{"type": "InternalIP", "address": ip}]
        await cloud.reports.write("edge-1", node_report("edge-1", addresses=addresses))
    status = api.get("nodes", "", "edge-1")["status"]
    assert status["addresses"] == [{"type": "InternalIP", "address": "10.0.0.2"}]


async def test_a_node_is_reached_at_cloudcore_and_its_own_address_stands_behind_that(api, cloud):
    own = {"type": "InternalIP", "address": "10.0.0.1"}
    cloud.endpoints["edge-1"] = Endpoint("192.0.2.1", 20007)
    await cloud.reports.write("edge-1", node_report("edge-1", addresses=[own]))
    status = api.get("nodes", "", "edge-1")["status"]
    assert status["addresses"] == [{"type": "InternalIP", "address": "192.0.2.1"}, own]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 20007}}
    await until(lambda: cloud.controller.recorded_endpoint("edge-1") == "192.0.2.1:20007")
    del cloud.endpoints["edge-1"]  # nodeproxy was switched off
    await cloud.reports.write("edge-1", node_report("edge-1", addresses=[own]))
    status = api.get("nodes", "", "edge-1")["status"]
    assert status["addresses"] == [own]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}
    await until(lambda: cloud.controller.recorded_endpoint("edge-1") == "")


async def test_a_node_cannot_say_itself_where_an_api_server_should_dial(api, cloud):
    evil = {"kubeletEndpoint": {"Port": 22}}
    await cloud.reports.write("edge-1", node_report("edge-1", daemonEndpoints=evil))
    status = api.get("nodes", "", "edge-1")["status"]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}


async def test_a_node_deleted_by_hand_comes_back_with_its_next_report(api, cloud):
    api.remove("nodes", "", "edge-1")
    await cloud.reports.write("edge-1", node_report("edge-1"))
    assert api.get("nodes", "", "edge-1")["status"]["conditions"]


async def test_a_machine_that_another_cloudcore_takes_for_this_node_is_noticed(api, cloud, caplog):
    said = "two machines use the name of this node"
    ours, key = f"{'1' * 32}:0:7:run-a", ObjectKey("Node", "", "edge-1")
    cloud.databases["edge-1"] = ours

    async def report_and_see():
        await cloud.reports.write("edge-1", node_report("edge-1"))
        await until(lambda: recorded_database(cloud.controller._nodes.get(key).body) == ours)

    def write_over(text):
        node = api.get("nodes", "", "edge-1")
        node["metadata"].setdefault("annotations", {})[DATABASE_ANNOTATION] = text
        return api.put("nodes", node)["metadata"]["resourceVersion"]

    async def seen(version):
        await until(lambda: cloud.controller._nodes.get(key).resource_version == version)

    await seen(write_over(f"{'2' * 32}:0:9:run-z"))  # of the machine that was here before
    await report_and_see()
    await report_and_see()
    assert said not in caplog.text
    await seen(write_over(f"{'1' * 32}:1:99:run-b"))
    await report_and_see()
    assert caplog.text.count(said) == 1
    assert "database 11111111/run-a is connected here, 11111111/run-b to another" in caplog.text
    await report_and_see()
    assert caplog.text.count(said) == 1
    cloud.databases["edge-1"] = ours = f"{'1' * 32}:1:100:run-c"  # it was started again
    await report_and_see()
    assert caplog.text.count(said) == 1


# Pods.


async def test_a_pod_status_is_patched_under_its_uid_and_keeps_foreign_conditions(api, cloud):
    uid = await known_pod(api, cloud)
    obj = api.get("pods", "default", "web")
    scheduled = {"type": "PodScheduled", "status": "True"}
    obj["status"] = {"reason": "Old", "podIPs": [{"ip": "1"}], "conditions": [scheduled]}
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "conditions": [ready], "podIPs": [{"ip": "2"}]}
    delta = report("Pod", "default", "web", {"status": status}, uid=uid)
    await cloud.reports.write("edge-1", delta)
    stored = api.get("pods", "default", "web")["status"]
    expected = {"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [scheduled, ready]}
    assert stored == expected
    assert api.sent("patch")[-1].node == "edge-1"


async def test_a_condition_keeps_no_reason_of_an_earlier_state(api, cloud):
    uid = await known_pod(api, cloud)
    wrong = {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "c"}
    right = {"type": "Ready", "status": "True"}
    for ready in (wrong, right):
        status = {"conditions": [ready]}
        delta = report("Pod", "default", "web", {"status": status}, uid=uid)
        await cloud.reports.write("edge-1", delta)
        assert api.get("pods", "default", "web")["status"]["conditions"] == [ready]
        await cloud.reports.write("edge-1", node_report("edge-1", **status))
        assert api.get("nodes", "", "edge-1")["status"]["conditions"] == [ready]


@pytest.mark.parametrize("conditions", [7, [7], {"type": "Ready"}])
async def test_conditions_that_are_no_list_of_objects_are_refused(api, cloud, conditions, caplog):
    uid = await known_pod(api, cloud)
    delta = report("Pod", "default", "web", {"status": {"conditions": conditions}}, uid=uid)
    await cloud.reports.write("edge-1", delta)
    assert "does not decode" in caplog.text
    assert "status" not in api.get("pods", "default", "web")


async def test_a_status_for_another_uid_or_a_deleted_pod_is_done(api, cloud):
    await known_pod(api, cloud)
    for name in ("web", "never-was"):
        await cloud.reports.write(
            "edge-1", report("Pod", "default", name, {"status": {"phase": "Failed"}}, uid="other")
        )
    assert "status" not in api.get("pods", "default", "web")


async def test_the_end_of_a_pod_finishes_a_deletion_that_was_asked_for(api, cloud):
    uid = await known_pod(api, cloud, deletionTimestamp="2026-01-01T00:00:00Z")
    end = report("Pod", "default", "web", uid=uid, op=Op.TOMBSTONE)
    await cloud.reports.write("edge-1", end)
    assert api.get("pods", "default", "web") is None
    options = api.sent("delete")[0].body
    assert (options["gracePeriodSeconds"], options["preconditions"]) == (0, {"uid": uid})
    await cloud.reports.write("edge-1", end)  # sent again: harmless


async def test_a_pod_that_nobody_asked_to_delete_stays(api, cloud, caplog):
    uid = await known_pod(api, cloud)
    end = report("Pod", "default", "web", uid=uid, op=Op.TOMBSTONE)
    await cloud.reports.write("edge-1", end)
    assert api.get("pods", "default", "web")
    assert "nobody asked to delete" in caplog.text


# Events.


def event(name="web.1", *, count=1, about=None, **metadata):
    body = named(name)
    body["metadata"] |= metadata
    body["involvedObject"] = about or {"kind": "Node", "name": "edge-1"}
    return body | {"count": count, "lastTimestamp": f"2026-01-01T00:00:0{count}Z"}


async def test_an_event_is_made_once_then_counted_up(api, cloud):
    for count in (1, 1, 2, 3):
        delta = report("Event", "default", "web.1", event(count=count))
        await cloud.reports.write("edge-1", delta)
    stored = api.get("events", "default", "web.1")
    assert (stored["count"], stored["lastTimestamp"]) == (3, "2026-01-01T00:00:03Z")
    assert len(api.sent("post", "api/v1/namespaces/default/events")) == 2


async def test_an_event_that_expired_is_made_again(api, cloud):
    await cloud.reports.write("edge-1", report("Event", "default", "web.1", event(count=5)))
    assert api.get("events", "default", "web.1")["count"] == 5


async def test_an_event_in_a_namespace_that_goes_is_dropped(api, cloud, caplog):
    api.faults.append(Fault("post", 403, message="namespace is being terminated"))
    with caplog.at_level(logging.INFO):
        await cloud.reports.write("edge-1", report("Event", "default", "web.1", event()))
    assert "Event default/web.1 dropped" in caplog.text


# What is not a node's own.


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(lease("edge-2"), id="another-nodes-lease"),
        pytest.param(report("Lease", "default", "edge-1", RENEWAL), id="a-lease-elsewhere"),
        pytest.param(node_report("edge-2"), id="another-node"),
        pytest.param(report("Node", "", "edge-1", op=Op.TOMBSTONE), id="the-end-of-a-node"),
        pytest.param(report("Secret", "default", "x", {}), id="a-secret"),
        pytest.param(report("Pod", "default", "theirs", {"status": {}}, uid="u"), id="their-pod"),
        pytest.param(report("Pod", "default", "theirs", uid="u", op=Op.TOMBSTONE), id="their-end"),
        pytest.param(report("Pod", "default", "web", {"status": {}}), id="no-uid"),
        pytest.param(report("Pod", "../../x", "web", {"status": {}}, uid="u"), id="a-path"),
        pytest.param(report("Pod", "a\nb", "web?x", {"status": {}}, uid="u"), id="a-query"),
        pytest.param(
            report("Event", "default", "e", event("e", about={"kind": "Node", "name": "edge-2"})),
            id="about-another-node",
        ),
        pytest.param(
            report("Event", "default", "e", event("e", about={"kind": "Secret", "name": "s"})),
            id="about-a-secret",
        ),
        pytest.param(report("Event", "default", "e", event("f")), id="another-event-name"),
        pytest.param(report("Event", "default", "e", []), id="no-event"),
        pytest.param(report("Lease", "kube-node-lease", "edge-1", {}), id="an-empty-lease"),
        pytest.param(lease()._replace(body=b"[" * 100_000), id="deep-nesting"),
        pytest.param(lease()._replace(body=b"\xff\xfe"), id="no-text"),
    ],
)
async def test_what_is_not_the_nodes_own_is_refused_and_named(api, cloud, caplog, delta):
    await known_pod(api, cloud, "theirs", "edge-2")
    await cloud.reports.write("edge-1", delta)
    assert [s for s in api.requests if s.verb in ("post", "patch", "delete")] == []
    assert "report of node edge-1:" in caplog.text


# Failures.


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_what_may_pass_is_retried_until_it_does(api, cloud, status, caplog):
    api.faults += [Fault("patch", status) for _ in range(4)]
    with caplog.at_level(logging.INFO):
        await cloud.reports.write("edge-1", lease())
    assert api.get("leases", "kube-node-lease", "edge-1")
    said = [r for r in caplog.records if "writing reports of nodes" in r.getMessage()]
    assert [r.levelname for r in said] == ["WARNING", "INFO"]


async def test_a_lease_does_not_wait_for_pods_and_events_that_are_being_retried(api, cloud):
    api.faults += [Fault("patch", 500, plural=p) for p in ("pods", "events") for _ in range(5000)]
    others = [
        report("Pod", "default", name, {"status": {}}, uid=await known_pod(api, cloud, name))
        for name in ("a", "b", "c", "d", "e", "f")
    ]
    event = {
        "metadata": {"namespace": "default"},
        "involvedObject": {"kind": "Node", "name": "edge-1"},
    }
    for name in ("e1", "e2", "e3", "e4", "e5"):
        body = {**event, "metadata": {"namespace": "default", "name": name}, "count": 2}
        others.append(report("Event", "default", name, body))
    stuck = [asyncio.create_task(cloud.reports.write("edge-1", other)) for other in others]
    await until(lambda: cloud.reports._retrying >= 8)  # as many of each kind as one node may have
    await asyncio.wait_for(cloud.reports.write("edge-1", lease()), 2)
    assert not any(task.done() for task in stuck)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


@pytest.mark.parametrize("status", [400, 403, 422])
async def test_what_can_never_pass_is_said_once_and_given_up(api, cloud, status, caplog):
    api.faults += [Fault("patch", status) for _ in range(2)]
    for _ in range(2):
        await cloud.reports.write("edge-1", lease())
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1
    assert "report of node edge-1: Lease kube-node-lease/edge-1 not written" in said[0]


async def test_a_missing_right_to_impersonate_loses_nothing(api, cloud):
    message = 'users is forbidden: User "x" cannot impersonate resource "users"'
    api.faults += [Fault("patch", 403, message=message) for _ in range(3)]
    await cloud.reports.write("edge-1", lease())
    assert api.get("leases", "kube-node-lease", "edge-1")


async def test_an_older_report_never_overtakes_a_newer_one(api, cloud):
    api.faults += [Fault("patch", 500) for _ in range(3)]
    renewals = [lease(renewTime=f"2026-01-01T00:00:0{n}.000000Z") for n in range(5)]
    async with asyncio.TaskGroup() as group:
        for delta in renewals:
            group.create_task(cloud.reports.write("edge-1", delta))
    stored = api.get("leases", "kube-node-lease", "edge-1")["spec"]["renewTime"]
    assert stored == "2026-01-01T00:00:04.000000Z"


async def test_a_cancelled_write_ends_at_once(api, cloud):
    api.faults += [Fault("patch", 500) for _ in range(1000)]
    task = asyncio.create_task(cloud.reports.write("edge-1", lease()))
    await until(lambda: len(api.sent("patch")) > 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cloud.reports._retrying == 0


class SlowApi:
    """The API as a node, whose patches end when the test says so."""

    def __init__(self):
        self.begun, self.go, self.ended = [], asyncio.Event(), []

    async def patch(self, _path, body, **_):
        renewed = json.loads(body)["spec"]["renewTime"]
        self.begun.append(renewed)
        await self.go.wait()
        self.ended.append(renewed)
        return b"{}"


async def test_a_write_that_is_under_way_when_its_node_is_lost_does_not_overtake_the_next_one():
    slow = SlowApi()
    reports = NodeReports(Informers(slow, FAST), slow)
    first = asyncio.create_task(reports.write("edge-1", lease(renewTime="1")))
    await until(lambda: slow.begun == ["1"])
    first.cancel()
    second = asyncio.create_task(reports.write("edge-1", lease(renewTime="2")))
    for _ in range(10):
        await asyncio.sleep(0)
    assert slow.begun == ["1"]
    slow.go.set()
    await second
    assert slow.ended == ["1", "2"]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_write_that_never_ends_holds_up_the_end_of_its_stream_for_a_moment_only(
    monkeypatch,
):
    monkeypatch.setattr(upstream, "SENT_S", 0.05)
    slow = SlowApi()
    reports = NodeReports(Informers(slow, FAST), slow)
    write = asyncio.create_task(reports.write("edge-1", lease(renewTime="1")))
    await until(lambda: slow.begun == ["1"])
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    assert slow.ended == []
