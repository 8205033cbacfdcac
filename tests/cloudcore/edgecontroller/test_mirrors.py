"""Mirror pods, as nodes wish for them."""

from __future__ import annotations

import json

import pytest

from synccore.messages import Op
from tests.cloudcore.edgecontroller.test_upstream import known_pod, report

MARK = "kubernetes.io/config.mirror"


def wish(name="web-edge-1", uid="h-1", node="edge-1", **annotations):
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {MARK: uid} | annotations,
        },
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "busybox:1"}]},
    }
    return report("MirrorPod", "default", name, body, uid=uid)


def mirror(api, name="web-edge-1"):
    return api.get("pods", "default", name)


async def test_a_mirror_is_made_with_the_nodes_rights_and_owned_by_it(api, cloud):
    await cloud.reports.write("edge-1", wish())
    made = mirror(api)
    assert made["metadata"]["annotations"][MARK] == "h-1"
    (owner,) = made["metadata"]["ownerReferences"]
    node = api.get("nodes", "", "edge-1")["metadata"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "edge-1", node["uid"])
    assert {s.node for s in api.sent("post")} == {"edge-1"}


async def test_a_wish_that_is_met_writes_nothing(api, cloud):
    await cloud.reports.write("edge-1", wish())
    uid = mirror(api)["metadata"]["uid"]
    await cloud.reports.write("edge-1", wish())
    assert mirror(api)["metadata"]["uid"] == uid


async def test_a_mirror_of_another_pod_is_replaced(api, cloud):
    await cloud.reports.write("edge-1", wish())
    old = mirror(api)["metadata"]["uid"]
    await cloud.reports.write("edge-1", wish(uid="h-2"))
    made = mirror(api)["metadata"]
    assert made["annotations"][MARK] == "h-2"
    assert made["uid"] != old


async def test_a_mirror_is_removed_on_request_and_what_is_gone_is_fine(api, cloud):
    await cloud.reports.write("edge-1", wish())
    gone = report("MirrorPod", "default", "web-edge-1", uid="m", op=Op.TOMBSTONE)
    for _ in range(2):
        await cloud.reports.write("edge-1", gone)
        assert mirror(api) is None


async def test_a_pod_that_is_no_mirror_keeps_its_name(api, cloud):
    await known_pod(api, cloud, "web-edge-1")
    before = mirror(api)
    await cloud.reports.write("edge-1", wish())
    gone = report("MirrorPod", "default", "web-edge-1", uid="m", op=Op.TOMBSTONE)
    await cloud.reports.write("edge-1", gone)
    assert mirror(api) == before


@pytest.mark.parametrize(
    "change",
    [
        {"node": "edge-2"},
        {MARK: "other"},
    ],
)
async def test_a_node_mirrors_its_own_pods_only(api, cloud, change):
    await cloud.reports.write("edge-1", wish(**change))
    assert mirror(api) is None


async def test_a_body_of_another_name_is_refused(api, cloud):
    good = wish()
    body = json.loads(good.body)
    body["metadata"]["name"] = "another"
    bad = report("MirrorPod", "default", "web-edge-1", body, uid="h-1")
    await cloud.reports.write("edge-1", bad)
    assert mirror(api) is None
    assert mirror(api, "another") is None
