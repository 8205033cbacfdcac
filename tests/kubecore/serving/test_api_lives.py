"""A whole life through the API of the kinds that nodes and pods lean on: made, read, replaced, patched, listed, gone."""

from __future__ import annotations

import pytest

CORE = "/api/v1/namespaces/default"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
STRATEGIC = "application/strategic-merge-patch+json"


def lease(holder, seconds):
    def moment(second):
        return f"0001-01-01T00:00:{second:02}.000000Z"

    return {
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 30,
            "leaseTransitions": seconds,
            "acquireTime": moment(seconds),
            "renewTime": moment(seconds + 3),
        }
    }


LIVES = {
    "leases": (LEASES, [lease("one", 2), lease("two", 20), lease("three", 50)]),
    "configmaps": (f"{CORE}/configmaps", [{"data": {"k": word}} for word in ("a", "b", "c")]),
    "secrets": (f"{CORE}/secrets", [{"data": {"k": word}} for word in ("YQ==", "Yg==", "Yw==")]),
}


@pytest.mark.parametrize(("path", "states"), LIVES.values(), ids=LIVES)
async def test_an_object_lives_through_the_api(admin, path, states):
    first, second, third = states
    (part,) = first
    meta = {"name": "one"}
    status, made = await admin.post(path, {"metadata": meta, **first})
    assert (status, made[part]) == (201, first[part])
    assert (await admin.post(path, {"metadata": meta, **first}))[0] == 409
    assert (await admin.get(f"{path}/one"))[1][part] == first[part]
    status, changed = await admin.put(f"{path}/one", {**made, **second})
    assert (status, changed[part]) == (200, second[part])
    status, patched = await admin("PATCH", f"{path}/one", third, media=STRATEGIC)
    assert (status, patched[part]) == (200, third[part])
    assert (await admin.get(f"{path}/one"))[1] == patched
    await admin.post(path, {"metadata": {"name": "two", "labels": {"drop": "true"}}, **first})
    assert {"one", "two"} <= await names(admin, path)
    everywhere = path.replace("/namespaces/default", "")
    assert {"one", "two"} <= await names(admin, everywhere)
    assert (await admin.delete(f"{path}?labelSelector=drop%3Dtrue"))[0] == 200
    left = await names(admin, path)
    assert ("one" in left, "two" in left) == (True, False)
    assert (await admin.delete(f"{path}/one"))[0] == 200
    assert (await admin.get(f"{path}/one"))[0] == 404


async def test_a_runtime_class_lives_through_the_api_and_a_pod_of_one_that_is_gone_is_refused(
    admin,
):
    assert "node.k8s.io" in [g["name"] for g in (await admin.get("/apis"))[1]["groups"]]
    kinds = (await admin.get("/apis/node.k8s.io/v1"))[1]["resources"]
    assert "runtimeclasses" in [kind["name"] for kind in kinds]
    body = {"metadata": {"name": "vm", "labels": {"t": "x"}}, "handler": "kata"}
    pod = {
        "metadata": {"name": "web"},
        "spec": {"runtimeClassName": "vm", "containers": [{"name": "c", "image": "i"}]},
    }
    pods = f"{CORE}/pods?dryRun=All"
    assert (await admin.post(pods, pod))[0] == 403
    status, made = await admin.post(CLASSES, body)
    assert status == 201
    assert (await admin.post(CLASSES, body))[0] == 409
    note = {"metadata": {"annotations": {"patched": "true"}}}
    assert (await admin.merge(f"{CLASSES}/vm", note))[1]["metadata"]["annotations"] == {
        "patched": "true"
    }
    made["metadata"].pop("resourceVersion")
    made["metadata"]["annotations"] = {"updated": "true"}
    assert (await admin.put(f"{CLASSES}/vm", made))[0] == 200
    status, admitted = await admin.post(pods, pod)
    assert (status, "overhead" in admitted["spec"]) == (201, False)
    await admin.delete(f"{CLASSES}?labelSelector=t%3Dx")
    assert await names(admin, CLASSES) == set()
    status, refused = await admin.post(pods, pod)
    assert (status, refused["reason"]) == (403, "Forbidden")


async def names(admin, path):
    return {item["metadata"]["name"] for item in (await admin.get(path))[1]["items"]}
