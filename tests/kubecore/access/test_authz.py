from __future__ import annotations

import json

import pytest

RBAC = "/apis/rbac.authorization.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
NODE = {"Impersonate-User": "system:node:n1", "Impersonate-Group": "system:nodes"}


def role(kind, name, *rules, namespace=None):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": metadata, "rules": list(rules)}


def binding(kind, name, role_kind, *subjects):
    return {
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": name},
        "subjects": [
            {"kind": k, "name": n, "apiGroup": "rbac.authorization.k8s.io"} for k, n in subjects
        ],
    }


def rule(verbs, resources, groups=("",), names=()):
    made = {"verbs": list(verbs), "resources": list(resources), "apiGroups": list(groups)}
    return made | ({"resourceNames": list(names)} if names else {})


async def test_a_role_counts_in_its_namespace_only(server, admin):
    bob = await server.client("bob")
    place = f"{RBAC}/namespaces/default"
    await admin.post(f"{place}/roles", role("Role", "r", rule(["list"], ["pods"])))
    await admin.post(f"{place}/rolebindings", binding("RoleBinding", "r", "Role", ("User", "bob")))
    assert (await bob.get(PODS))[0] == 200
    assert (await bob.get("/api/v1/pods"))[0] == 403
    assert (await bob.get("/api/v1/namespaces/kube-system/pods"))[0] == 403
    await admin.delete(f"{place}/rolebindings/r")
    assert (await bob.get(PODS))[0] == 403, "a right that is taken back is gone at once"


async def test_a_cluster_role_counts_for_groups_names_and_subresources(server, admin):
    ann = await server.client("ann", "ops")
    rules = [
        rule(["get"], ["configmaps"], names=["one"]),
        rule(["patch"], ["pods/status"]),
        {"verbs": ["get"], "nonResourceURLs": ["/metrics*"]},
    ]
    await admin.post(f"{RBAC}/clusterroles", role("ClusterRole", "c", *rules))
    cluster_binding = binding("ClusterRoleBinding", "c", "ClusterRole", ("Group", "ops"))
    await admin.post(f"{RBAC}/clusterrolebindings", cluster_binding)
    assert (await ann.get("/api/v1/namespaces/default/configmaps/one"))[0] == 404
    assert (await ann.get("/api/v1/namespaces/default/configmaps/two"))[0] == 403
    assert (await ann.merge(f"{PODS}/p/status", {}))[0] == 404
    status, body = await ann.merge(f"{PODS}/p", {})
    assert status == 403
    assert body["message"].startswith(
        'pods "p" is forbidden: User "ann" cannot patch resource "pods"'
    )
    assert (await ann.get("/metrics/x"))[0] == 404
    assert (await ann.get("/other"))[1][
        "message"
    ] == 'forbidden: User "ann" cannot get path "/other"'


async def test_impersonation_needs_its_own_right(server, admin):
    cloud = await server.client("armadillo:cloudcore", "armadillo:cloudcore")
    status, body = await cloud.get("/api/v1/nodes/n1", **NODE)
    assert status == 403
    assert 'cannot impersonate resource "users"' in body["message"]
    rules = [rule(["impersonate"], ["users", "groups"])]
    await admin.post(f"{RBAC}/clusterroles", role("ClusterRole", "i", *rules))
    subject = ("User", "armadillo:cloudcore")
    await admin.post(
        f"{RBAC}/clusterrolebindings", binding("ClusterRoleBinding", "i", "ClusterRole", subject)
    )
    assert (await cloud.get("/api/v1/nodes/n1", **NODE))[0] == 404


@pytest.fixture
async def node(server):
    return await server.client("system:node:n1", "system:nodes")


def pod(name, **spec):
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


async def test_a_node_touches_itself_and_its_lease_only(node):
    assert (await node.post("/api/v1/nodes", {"metadata": {"name": "n2"}}))[0] == 403
    assert (await node.post("/api/v1/nodes", {"metadata": {"name": "n1"}}))[0] == 201
    assert (await node.get("/api/v1/nodes/n1"))[0] == 200
    assert (await node.get("/api/v1/nodes/n2"))[0] == 403
    assert (await node.get("/api/v1/nodes"))[0] == 403
    assert (await node.merge("/api/v1/nodes/n1/status", {"status": {"capacity": {"cpu": "1"}}}))[
        0
    ] == 200
    assert (await node.post(LEASES, {"metadata": {"name": "n2"}, "spec": {}}))[0] == 403
    assert (await node.post(LEASES, {"metadata": {"name": "n1"}, "spec": {}}))[0] == 201
    lease = {"spec": {"renewTime": "2026-11-23T08:00:00.000000Z"}}
    assert (await node.merge(f"{LEASES}/n1", lease))[0] == 200
    assert (await node.merge(f"{LEASES}/n2", lease))[0] == 403


async def test_a_node_may_not_place_pods_on_itself_by_labels_and_taints(admin, node):
    here, own = "/api/v1/nodes/n1", {"kubernetes.io/hostname": "n1", "example.com/site": "north"}
    role_of_it = {"node-role.kubernetes.io/control-plane": ""}
    taints = [{"key": "edge", "effect": "NoSchedule"}]
    made = {"metadata": {"name": "n1", "labels": own}, "spec": {"taints": taints}}
    refused = {"metadata": {"name": "n1", "labels": own | role_of_it}}
    status, body = await node.post("/api/v1/nodes", refused)
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"].endswith("the labels node-role.kubernetes.io/control-plane")
    assert (await node.post("/api/v1/nodes", made))[0] == 201
    label = {"metadata": {"labels": {"node-restriction.kubernetes.io/safe": "yes"}}}
    assert (await node.merge(here, label))[0] == 403
    assert (await node.merge(here, {"spec": {"taints": None}}))[0] == 403
    assert (await node.merge(here, {"metadata": {"labels": {"example.com/site": "south"}}}))[
        0
    ] == 200
    assert (await admin.merge(here, {"metadata": {"labels": role_of_it}}))[0] == 200
    assert (await node.merge(here, {"metadata": {"labels": {"node.kubernetes.io/a": "b"}}}))[
        0
    ] == 200
    assert (await node.merge(f"{here}/status", {"status": {"phase": "Running"}}))[0] == 200


async def test_a_node_touches_its_own_pods_and_what_they_name_only(admin, node):
    volumes = [{"name": "v", "configMap": {"name": "mine"}}]
    await admin.post(PODS, pod("own", nodeName="n1", volumes=volumes))
    await admin.post(PODS, pod("other", nodeName="n2"))
    assert (await node.get(f"{PODS}/own"))[0] == 200
    assert (await node.get(f"{PODS}/other"))[0] == 403
    assert (await node.get("/api/v1/pods"))[0] == 403
    assert (await node.get("/api/v1/pods?fieldSelector=spec.nodeName=n1"))[0] == 200
    status = {"status": {"phase": "Running"}}
    assert (await node.merge(f"{PODS}/own/status", status))[0] == 200
    assert (await node.merge(f"{PODS}/other/status", status))[0] == 403
    assert (await node.merge(f"{PODS}/own", {"metadata": {"labels": {"a": "b"}}}))[0] == 403
    assert (await node.get("/api/v1/namespaces/default/configmaps/mine"))[0] == 404
    assert (await node.get("/api/v1/namespaces/default/configmaps/other"))[0] == 403
    assert (await node.delete(f"{PODS}/other"))[0] == 403
    assert (await node.delete(f"{PODS}/own", {"gracePeriodSeconds": 0}))[0] == 200


async def test_an_access_review_answers_for_the_one_who_asks(server):
    bob = await server.client("bob")
    wanted = {"verb": "get", "resource": "pods", "namespace": "default"}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    status, body = await bob.post(path, {"spec": {"resourceAttributes": wanted}})
    assert (status, body["status"]) == (201, {"allowed": False})


MIRROR = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-n1",
        "namespace": "default",
        "annotations": {"kubernetes.io/config.mirror": "h"},
    },
    "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "busybox:1"}]},
}
SECRET_ENV = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"annotations": {}}, "can only create mirror pods"),
        ({"ownerReferences": []}, "with an owner reference set to itself"),
        ({"nodeName": "n2"}, "with spec.nodeName set to itself"),
        ({"serviceAccountName": "admin"}, "can not create pods that reference a service account"),
        ({"env": SECRET_ENV}, "can not create pods that reference other objects: secretKeyRef"),
    ],
)
async def test_a_node_may_create_mirrors_of_its_own_static_pods_only(
    server, admin, change, problem
):
    _, node = await admin.post("/api/v1/nodes", {"kind": "Node", "metadata": {"name": "n1"}})
    owner = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"]}
    pod = json.loads(json.dumps(MIRROR))
    pod["metadata"]["ownerReferences"] = [owner]
    for name, value in change.items():
        if name == "env":
            pod["spec"]["containers"][0]["env"] = value
        else:
            pod["metadata" if name in pod["metadata"] else "spec"][name] = value
    status, body = await admin.post(PODS, pod, **NODE)
    assert status == (403 if problem else 201), body
    assert problem in body.get("message", "")
