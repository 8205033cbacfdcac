"""Edged and the way onto the node, with a runtime in memory."""

from __future__ import annotations

from tests.fakes.pods import container, pod_object


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
