"""Priority classes and runtime classes, through the whole API."""

from __future__ import annotations

import pytest

from tests.kubecore.samples import make_pod

pytestmark = pytest.mark.timeout(30)
PODS = "/api/v1/namespaces/default/pods"
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"


async def made(admin, path, body):
    status, answer = await admin.post(path, body)
    assert status == 201, answer
    return answer


async def refused(admin, path, body, wanted=403):
    status, answer = await admin.post(path, body)
    assert status == wanted, answer
    return answer["message"]


def priority(name, value, **fields):
    return {"metadata": {"name": name}, "value": value, **fields}


async def test_a_pod_gets_the_priority_of_its_class(admin):
    await made(admin, PRIORITIES, priority("high", 1000, preemptionPolicy="Never"))
    spec = (await made(admin, PODS, make_pod("a", priorityClassName="high")))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    critical = make_pod("b", priorityClassName="system-node-critical")
    assert (await made(admin, PODS, critical))["spec"]["priority"] == 2_000_001_000
    assert (await made(admin, PODS, make_pod("c")))["spec"]["priority"] == 0
    problem = 'pods "d" is forbidden: no PriorityClass with name none was found'
    assert await refused(admin, PODS, make_pod("d", priorityClassName="none")) == problem
    problem = "the integer value of priority (5) must not be provided in pod spec"
    assert problem in await refused(admin, PODS, make_pod("e", priority=5))


async def test_pods_without_a_class_get_the_default_one(admin):
    await made(admin, PRIORITIES, priority("usual", 7, globalDefault=True))
    spec = (await made(admin, PODS, make_pod()))["spec"]
    assert (spec["priority"], spec["priorityClassName"]) == (7, "usual")
    problem = "PriorityClass usual is already marked as default. Only one default can exist"
    body = priority("other", 8, globalDefault=True)
    assert problem in await refused(admin, PRIORITIES, body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (priority("big", 1_000_000_001), "maximum allowed value of a user defined priority is"),
        (priority("system-mine", 1), "are reserved for system use only"),
        (priority("a", 1, preemptionPolicy="Maybe"), 'Unsupported value: "Maybe"'),
    ],
)
async def test_a_priority_class_that_is_wrong_is_refused(admin, body, problem):
    assert problem in await refused(admin, PRIORITIES, body, 422)


async def test_the_value_of_a_priority_class_stays(admin):
    await made(admin, PRIORITIES, priority("high", 1000))
    status, body = await admin.merge(f"{PRIORITIES}/high", {"value": 1})
    assert (status, "may not be changed in an update" in body["message"]) == (422, True)
    assert (await admin.merge(f"{PRIORITIES}/high", {"description": "x"}))[0] == 200


def runtime(name="gvisor", **fields):
    return {"metadata": {"name": name}, "handler": "runsc", **fields}


async def test_a_pod_takes_over_what_its_runtime_class_says(admin):
    tolerations = [{"key": "sandbox", "operator": "Exists"}]
    scheduling = {"nodeSelector": {"sandbox": "yes"}, "tolerations": tolerations}
    overhead = {"podFixed": {"cpu": "0.25", "memory": "64Mi"}}
    await made(admin, RUNTIMES, runtime(overhead=overhead, scheduling=scheduling))
    spec = (await made(admin, PODS, make_pod("a", runtimeClassName="gvisor")))["spec"]
    assert spec["overhead"] == {"cpu": "250m", "memory": "64Mi"}
    assert spec["nodeSelector"] == {"sandbox": "yes"}
    assert {"key": "sandbox", "operator": "Exists"} in spec["tolerations"]
    other = make_pod("b", runtimeClassName="gvisor", nodeSelector={"sandbox": "no"})
    assert "conflict: runtimeClass.scheduling.nodeSelector[sandbox] = yes" in await refused(
        admin, PODS, other
    )
    other = make_pod("b", runtimeClassName="gvisor", overhead={"cpu": "1"})
    assert "Pod's Overhead doesn't match" in await refused(admin, PODS, other)
    other = make_pod("b", overhead={"cpu": "1"})
    assert "without corresponding RuntimeClass" in await refused(admin, PODS, other)
    problem = 'pods "b" is forbidden: pod rejected: RuntimeClass "none" not found'
    assert await refused(admin, PODS, make_pod("b", runtimeClassName="none")) == problem


async def test_overhead_is_counted_by_the_scheduler(admin):
    await made(admin, RUNTIMES, runtime(overhead={"podFixed": {"cpu": "3"}}))
    ready = [{"type": "Ready", "status": "True"}]
    status = {"allocatable": {"cpu": "2", "pods": "10"}, "conditions": ready}
    await made(admin, "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": status})
    await made(admin, PODS, make_pod("a", runtimeClassName="gvisor"))
    async with admin.watch(f"{PODS}?watch=true&fieldSelector=metadata.name%3Da") as events:
        async for event in events:
            conditions = event["object"]["status"].get("conditions") or [{}]
            if "Insufficient cpu" in conditions[0].get("message", ""):
                break


async def test_a_runtime_class_keeps_its_handler_and_has_a_sound_one(admin):
    await made(admin, RUNTIMES, runtime())
    status, body = await admin.merge(f"{RUNTIMES}/gvisor", {"handler": "kata"})
    assert (status, "field is immutable" in body["message"]) == (422, True)
    wrong = runtime("b", handler="A B")
    assert "a lowercase RFC 1123 label" in await refused(admin, RUNTIMES, wrong, 422)
    wrong = runtime("b", overhead={"podFixed": {"cpu": "-1"}})
    assert "greater than or equal to 0" in await refused(admin, RUNTIMES, wrong, 422)
