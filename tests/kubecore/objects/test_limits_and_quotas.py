"""Limit ranges and quotas, through the whole API."""

from __future__ import annotations

import asyncio

import pytest

from tests.kubecore.samples import make_pod

pytestmark = pytest.mark.timeout(30)
NAMESPACE = "/api/v1/namespaces/default"
PODS, LIMITS, QUOTAS = (f"{NAMESPACE}/{p}" for p in ("pods", "limitranges", "resourcequotas"))
CLAIMS = f"{NAMESPACE}/persistentvolumeclaims"


async def made(admin, path, body):
    status, answer = await admin.post(path, body)
    assert status == 201, answer
    return answer


async def refused(admin, path, body, wanted=403):
    status, answer = await admin.post(path, body)
    assert status == wanted, answer
    return answer["message"]


def pod(name="a", **resources):
    return make_pod(name, containers=[{"name": "c", "image": "busybox", "resources": resources}])


async def limit(admin, **item):
    body = {"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container", **item}]}}
    return await made(admin, LIMITS, body)


async def quota(admin, name="q", **spec):
    return await made(admin, QUOTAS, {"metadata": {"name": name}, "spec": spec})


async def used(admin, accept):
    """Return the status of the quota once `accept` takes what is used."""
    async with asyncio.timeout(20):
        while True:
            _, body = await admin.get(f"{QUOTAS}/q")
            status = body.get("status") or {}
            if accept(status.get("used") or {}):
                return status
            await asyncio.sleep(0.02)


async def test_containers_get_the_defaults_of_their_namespace(admin):
    default, request = {"cpu": "500m", "memory": "512Mi"}, {"cpu": "100m"}
    await limit(admin, default=default, defaultRequest=request)
    answer = await made(admin, PODS, pod(limits={"cpu": "1"}))
    resources = answer["spec"]["containers"][0]["resources"]
    assert resources == {
        "limits": {"cpu": "1", "memory": "512Mi"},
        "requests": {"cpu": "1", "memory": "512Mi"},
    }
    assert answer["status"]["qosClass"] == "Guaranteed"
    note = answer["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert note == (
        "LimitRanger plugin set: memory request for container c; memory limit for container c"
    )
    resources = (await made(admin, PODS, pod("b")))["spec"]["containers"][0]["resources"]
    assert resources == {"limits": default, "requests": {"cpu": "100m", "memory": "512Mi"}}
    # A default limit below what is requested is no pod at all.
    message = await refused(admin, PODS, pod("d", requests={"cpu": "2"}), 422)
    assert "must be less than or equal to cpu limit of 500m" in message


async def test_a_maximum_is_the_default_limit(admin):
    await limit(admin, max={"memory": "1Gi"})
    answer = await made(admin, PODS, pod())
    assert answer["spec"]["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}


@pytest.mark.parametrize(
    ("item", "resources", "problem"),
    [
        (
            {"max": {"memory": "1Gi"}},
            {"limits": {"memory": "1536Mi"}},
            "maximum memory usage per Container is 1Gi, but limit is 1536Mi",
        ),
        (
            {"min": {"cpu": "100m"}},
            {"requests": {"cpu": "50m"}},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
        ),
        (
            {"type": "Pod", "max": {"cpu": "1"}},
            {"requests": {"cpu": "100m"}},
            "maximum cpu usage per Pod is 1.  No limit is specified",
        ),
    ],
)
async def test_pods_outside_of_the_bounds_are_refused(admin, item, resources, problem):
    await limit(admin, **item)
    message = await refused(admin, PODS, pod(**resources))
    assert message == f'pods "a" is forbidden: {problem}'


async def test_claims_have_bounds_too(admin):
    await limit(admin, type="PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"})

    def claim(size):
        resources = {"requests": {"storage": size}}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
        return {"metadata": {"name": f"c-{size.lower()}"}, "spec": spec}

    await made(admin, CLAIMS, claim("1Gi"))
    for size, word in (("1Mi", "minimum"), ("3Gi", "maximum")):
        assert f"{word} storage usage" in await refused(admin, CLAIMS, claim(size))


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"min": {"cpu": "2"}, "max": {"cpu": "1"}}, "min value 2 is greater than max value 1"),
        ({"default": {"cpu": "2"}, "max": {"cpu": "1"}}, "default value 2 is greater than max"),
        ({"type": "Pod", "default": {"cpu": "2"}}, "may not be specified when `type` is 'Pod'"),
        ({"max": {"cpu": "-1"}}, "must be greater than or equal to 0"),
        ({"maxLimitRequestRatio": {"cpu": "0.5"}}, "is less than 1"),
        ({"type": "PersistentVolumeClaim"}, "minimum or maximum storage value is required"),
    ],
)
async def test_a_limit_range_that_contradicts_itself_is_refused(admin, item, problem):
    body = {"metadata": {"name": "x"}, "spec": {"limits": [{"type": "Container", **item}]}}
    assert problem in await refused(admin, LIMITS, body, 422)


async def test_a_quota_refuses_what_exceeds_it_and_shows_what_is_used(admin):
    await quota(admin, hard={"pods": "2", "requests.cpu": "1"})
    await made(admin, PODS, pod(requests={"cpu": "600m"}))
    problem = (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=500m, '
        "used: requests.cpu=600m, limited: requests.cpu=1"
    )
    assert await refused(admin, PODS, pod("b", requests={"cpu": "500m"})) == problem
    problem = "failed quota: q: must specify requests.cpu for: c"
    assert problem in await refused(admin, PODS, pod("b"))
    status = await used(admin, lambda found: found.get("pods") == "1")
    assert status == {
        "hard": {"pods": "2", "requests.cpu": "1"},
        "used": {"pods": "1", "requests.cpu": "600m"},
    }
    # A pod that has ended, or gone, gives back what it took.
    await admin.merge(f"{PODS}/a/status", {"status": {"phase": "Succeeded"}})
    await used(admin, lambda found: found.get("pods") == "0")
    await made(admin, PODS, pod("b", requests={"cpu": "1"}))
    await admin.delete(f"{PODS}/b")
    await used(admin, lambda found: found.get("requests.cpu") == "0")


async def test_a_quota_holds_against_many_at_once(admin):
    await quota(admin, hard={"configmaps": "5", "count/secrets": "1"})
    _, body = await admin.get(f"{NAMESPACE}/configmaps")
    left = 5 - len(body["items"])
    bodies = [{"metadata": {"name": f"c{i}"}} for i in range(20)]
    answers = await asyncio.gather(*(admin.post(f"{NAMESPACE}/configmaps", b) for b in bodies))
    assert sorted(status for status, _ in answers) == [201] * left + [403] * (20 - left)
    await made(admin, f"{NAMESPACE}/secrets", {"metadata": {"name": "a"}})
    message = await refused(admin, f"{NAMESPACE}/secrets", {"metadata": {"name": "b"}})
    assert "requested: count/secrets=1, used: count/secrets=1" in message


async def test_node_ports_and_storage_are_counted(admin):
    await quota(admin, hard={"services.nodeports": "1", "requests.storage": "1Gi"})
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    body = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}
    assert "services.nodeports=2" in await refused(admin, f"{NAMESPACE}/services", body)
    body["spec"]["type"] = "ClusterIP"
    await made(admin, f"{NAMESPACE}/services", body)
    status, answer = await admin.merge(f"{NAMESPACE}/services/s", {"spec": {"type": "NodePort"}})
    assert (status, "exceeded quota" in answer["message"]) == (403, True)
    resources = {"requests": {"storage": "2Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
    claim = {"metadata": {"name": "c"}, "spec": spec}
    assert "requests.storage=2Gi" in await refused(admin, CLAIMS, claim)


async def test_a_quota_may_count_some_pods_only(admin):
    await quota(admin, "q", hard={"pods": "0"}, scopes=["BestEffort"])
    expression = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    selector = {"matchExpressions": [expression]}
    await quota(admin, "p", hard={"pods": "0"}, scopeSelector=selector)
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    await made(admin, classes, {"metadata": {"name": "high"}, "value": 1})
    assert "exceeded quota: q" in await refused(admin, PODS, pod())
    await made(admin, PODS, pod(requests={"cpu": "1"}))
    high = pod("b", requests={"cpu": "1"})
    high["spec"]["priorityClassName"] = "high"
    assert "exceeded quota: p" in await refused(admin, PODS, high)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"hard": {"cpu": "-1"}}, "must be greater than or equal to 0"),
        ({"hard": {"apples": "1"}}, "must be a standard resource for quotas"),
        ({"hard": {"pods": "1"}, "scopes": ["Some"]}, 'Unsupported value: "Some"'),
    ],
)
async def test_a_quota_that_counts_nothing_is_refused(admin, spec, problem):
    body = {"metadata": {"name": "x"}, "spec": spec}
    assert problem in await refused(admin, QUOTAS, body, 422)
