"""Edged and the way onto the node, with a runtime in memory."""

from __future__ import annotations

import json

from tests.fakes.pods import container, pod_object
from tests.fakes.uplink import FakeUplink


def hungry(name, uid, cpu="1500m", **spec):
    return pod_object(
        name, uid, containers=[container(resources={"requests": {"cpu": cpu}})], **spec
    )


async def test_a_pod_that_does_not_fit_fails_with_kubelets_words_and_the_others_run(edge):
    async with edge.running():
        await edge.put("Pod", hungry("first", "u-1"))
        await edge.until(lambda: edge.phase("first") == "Running")
        await edge.put("Pod", hungry("second", "u-2"))
        await edge.until(lambda: edge.phase("second") == "Failed")
        status = edge.status("second")
        words = "Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000"
        assert status["reason"] == "OutOfcpu"
        assert status["message"] == f"Pod was rejected: {words}"
        assert "containerStatuses" not in status
        assert ("Warning", "OutOfcpu", words) in edge.events()
        assert edge.phase("first") == "Running"
        await edge.drop("Pod", "second", "u-2")
        assert {s.pod.uid for s in edge.runtime.sandboxes.values()} == {"u-1"}


async def test_the_place_of_a_pod_that_ended_is_free_again(edge):
    async with edge.running():
        await edge.put("Pod", hungry("first", "u-1", restartPolicy="Never"))
        await edge.until(lambda: edge.phase("first") == "Running")
        edge.runtime.exit("app")
        await edge.until(lambda: edge.phase("first") == "Succeeded")
        await edge.put("Pod", hungry("second", "u-2"))
        await edge.until(lambda: edge.phase("second") == "Running")


async def test_a_running_pod_is_not_refused_by_the_next_edgecore(edge):
    async with edge.running():
        await edge.put("Pod", hungry("first", "u-1"))
        await edge.until(lambda: edge.phase("first") == "Running")
    # The node has shrunk meanwhile, and a new pod came first in the store's order.
    edge.allocatable = {"cpu": 1}
    async with edge.running():
        await edge.put("Pod", hungry("a-new", "u-2", "100m"))
        await edge.until(lambda: edge.phase("a-new") == "Failed")
        assert edge.phase("first") == "Running"
    edge.store.notes.clear()  # its database is lost: what runs has been taken all the same
    edge.store.objects.pop(("Pod", "default", "a-new"))
    async with edge.running():
        edge.runtime.exit("app", 1)
        await edge.until(lambda: edge.runtime.container("app").attempt == 1)
        assert edge.phase("first") == "Running"


async def test_a_refused_pod_stays_refused_by_the_next_edgecore_and_can_be_deleted(edge):
    deleted = {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": 2}
    async with edge.running():
        await edge.put("Pod", hungry("big", "u-1", "9"))
        await edge.until(lambda: edge.phase("big") == "Failed")
    edge.allocatable = {"cpu": 16}
    async with edge.running():
        await edge.put("Pod", hungry("next", "u-2", "9"))
        await edge.until(lambda: edge.phase("next") == "Running")
        assert edge.phase("big") == "Failed"
        await edge.put("Pod", hungry("big", "u-1", "9") | {
            "metadata": {"name": "big", "namespace": "default", "uid": "u-1", **deleted}
        })  # fmt: skip
        await edge.until(lambda: edge.ended("big") == ["u-1"])
        assert not [s for s in edge.runtime.sandboxes.values() if s.pod.uid == "u-1"]


async def test_a_critical_pod_takes_the_place_of_another(edge):
    async with edge.running():
        await edge.put("Pod", hungry("first", "u-1"))
        await edge.until(lambda: edge.phase("first") == "Running")
        await edge.put("Pod", hungry("vital", "u-2", priority=2_000_001_000))
        await edge.until(lambda: edge.phase("vital") == "Running")
        await edge.until(lambda: edge.phase("first") == "Failed")
        status = edge.status("first")
        assert status["reason"] == "Preempting"
        assert status["message"] == "Preempted in order to admit critical pod"
        target = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")


def facts(labels, *taints):
    return json.dumps({"labels": labels, "taints": list(taints)}).encode()


async def test_labels_and_taints_of_the_node_object_are_asked_for_and_kept(edge):
    edge.uplink = FakeUplink()
    edge.uplink.connected = True
    edge.uplink.answer = lambda _kind, _body: facts({"site": "south"})
    async with edge.running():
        await edge.put("Pod", pod_object("first", "u-1", nodeSelector={"site": "north"}))
        await edge.until(lambda: edge.phase("first") == "Failed")
        assert edge.status("first")["reason"] == "NodeAffinity"
        # The label was given a moment ago: before a pod is refused, the cloud is asked once more.
        edge.uplink.answer = lambda _kind, _body: facts({"site": "north"})
        await edge.put("Pod", pod_object("second", "u-2", nodeSelector={"site": "north"}))
        await edge.until(lambda: edge.phase("second") == "Running")
    edge.uplink.connected, edge.uplink.answer = False, None
    async with edge.running():  # without a link, what was kept decides
        await edge.put("Pod", pod_object("third", "u-3", nodeSelector={"site": "east"}))
        await edge.until(lambda: edge.phase("third") == "Failed")
        await edge.put("Pod", pod_object("fourth", "u-4", nodeSelector={"site": "north"}))
        await edge.until(lambda: edge.phase("fourth") == "Running")


async def test_a_taint_that_speaks_of_silence_refuses_nobody(edge):
    edge.uplink = FakeUplink()
    edge.uplink.connected = True
    silent = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    edge.uplink.answer = lambda _kind, _body: facts({}, silent)
    async with edge.running():
        await edge.put("Pod", pod_object("first", "u-1"))
        await edge.until(lambda: edge.phase("first") == "Running")
        other = {"key": "maintenance", "effect": "NoExecute"}
        edge.uplink.answer = lambda _kind, _body: facts({}, silent, other)
    edge.uplink.connected = True
    async with edge.running():
        await edge.until(lambda: len(edge.uplink.asked) >= 2)
        await edge.put("Pod", pod_object("second", "u-2"))
        await edge.until(lambda: edge.phase("second") == "Failed")
        assert edge.status("second")["reason"] == "TaintToleration"
        assert (
            edge.phase("first") == "Running"
        )  # ending running pods for a taint is the cluster's business
