from __future__ import annotations

import asyncio
import json

import pytest

from tests.kubecore.server import running

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
ROOT_CA = "kube-root-ca.crt"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def configmap(name, **data):
    return {"metadata": {"name": name}, "data": data}


def pod(name, **spec):
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


CRD = {
    "metadata": {"name": "lamps.demo.example.com"},
    "spec": {
        "group": "demo.example.com",
        "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"},
        "versions": [
            {
                "name": version,
                "served": True,
                "storage": version == "v1",
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"lit": {"type": "boolean"}}},
                            "status": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            },
                        },
                    }
                },
            }
            for version in ("v1", "v1alpha1")
        ],
    },
}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LAMPS = "/apis/demo.example.com/v1/namespaces/default/lamps"


async def test_who_has_no_certificate_is_answered_401(server):
    stranger = await server.client(None)
    status, body = await stranger.get("/api")
    assert (status, body["kind"], body["reason"]) == (401, "Status", "Unauthorized")


async def test_who_has_no_rights_is_answered_403_in_kubernetes_words(server):
    bob = await server.client("bob")
    status, body = await bob.get(PODS)
    assert status == 403
    assert body["message"] == (
        'pods is forbidden: User "bob" cannot list resource "pods" in API group "" '
        'in the namespace "default"'
    )
    assert (await bob.get("/apis"))[0] == 200


async def test_an_object_is_created_read_changed_and_deleted(admin):
    status, made = await admin.post(CONFIGMAPS, configmap("a", x="1"))
    assert status == 201
    assert made["metadata"]["uid"]
    status, same = await admin.merge(f"{CONFIGMAPS}/a", {"data": {"x": "1"}})
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    status, changed = await admin.merge(f"{CONFIGMAPS}/a", {"data": {"x": "2"}})
    assert (status, changed["data"]) == (200, {"x": "2"})
    assert (await admin.get(f"{CONFIGMAPS}/a"))[1] == changed
    status, body = await admin.delete(f"{CONFIGMAPS}/a")
    assert (status, body["kind"], body["status"]) == (200, "Status", "Success")
    assert (await admin.get(f"{CONFIGMAPS}/a"))[0] == 404


async def test_a_write_with_an_old_resource_version_is_a_conflict(admin):
    _, first = await admin.post(CONFIGMAPS, configmap("a", x="1"))
    await admin.put(f"{CONFIGMAPS}/a", configmap("a", x="2"))
    status, body = await admin.put(f"{CONFIGMAPS}/a", first)
    assert (status, body["reason"]) == (409, "Conflict")
    assert body["message"].startswith('Operation cannot be fulfilled on configmaps "a": the object')


async def test_of_many_guarded_updates_at_once_exactly_one_wins(admin):
    _, first = await admin.post(CONFIGMAPS, configmap("a", x="0"))
    answers = await asyncio.gather(
        *(admin.put(f"{CONFIGMAPS}/a", {**first, "data": {"x": str(i)}}) for i in range(1, 21))
    )
    assert sorted(status for status, _ in answers) == [200] + [409] * 19


async def test_generated_names_and_taken_names(admin):
    body = {"metadata": {"generateName": "gen-"}}
    names = {(await admin.post(CONFIGMAPS, body))[1]["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    name = names.pop()
    status, body = await admin.post(CONFIGMAPS, configmap(name))
    assert (status, body["reason"]) == (409, "AlreadyExists")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        pytest.param(CONFIGMAPS, b'{"a', {}, 400, "is not JSON", id="cut-json"),
        pytest.param(CONFIGMAPS, b"[" * 100_000, {}, 400, "", id="deep-json"),
        pytest.param(
            CONFIGMAPS, b'{"data":' * 900 + b"1" + b"}" * 900, {}, 400, "", id="deep-object"
        ),
        pytest.param(CONFIGMAPS, b"[]", {}, 400, "not a JSON object", id="not-an-object"),
        pytest.param(CONFIGMAPS, {"metadata": 3}, {}, 400, "metadata", id="metadata-is-a-number"),
        pytest.param(CONFIGMAPS, {"metadata": {"name": 3}}, {}, 400, "", id="name-is-a-number"),
        pytest.param(CONFIGMAPS, {"metadata": {"name": "A_"}}, {}, 422, "RFC 1123", id="bad-name"),
        pytest.param(CONFIGMAPS, {}, {}, 422, "metadata.name", id="no-name"),
        pytest.param(CONFIGMAPS, b"x" * (4 << 20), {}, 413, "limit is 3145728", id="too-large"),
        pytest.param(
            CONFIGMAPS, b"a: [", {"media": "application/yaml"}, 400, "YAML", id="cut-yaml"
        ),
        pytest.param(
            CONFIGMAPS,
            b"a: &a [1]\nb: [*a, *a]",
            {"media": "application/yaml"},
            400,
            "aliases",
            id="yaml-bomb",
        ),
        pytest.param(
            CONFIGMAPS,
            b"k8s\0",
            {"media": "application/vnd.kubernetes.protobuf"},
            400,
            "cannot be read as application/vnd.kubernetes.protobuf",
            id="protobuf",
        ),
        pytest.param(
            CONFIGMAPS + "?fieldValidation=no", {}, {}, 400, "fieldValidation", id="bad-parameter"
        ),
        pytest.param(
            "/api/v1/namespaces/none/configmaps",
            configmap("a"),
            {},
            404,
            'namespaces "none"',
            id="no-namespace",
        ),
        pytest.param("/api/v1/namespaces/default/nothing", {}, {}, 404, "", id="unknown-kind"),
        pytest.param("/apis/apps/v9/x", {}, {}, 404, "", id="unknown-group"),
        pytest.param("/api/v1/nodes/a/b/c/d", {}, {}, 404, "", id="long-path"),
        pytest.param(f"{PODS}/a/exec", {}, {}, 404, 'pods "a" not found', id="exec"),
        pytest.param(f"{PODS}/a/resize", {}, {}, 404, "could not find", id="resize"),
        pytest.param("/version", {}, {}, 405, "", id="method"),
    ],
)
async def test_bad_requests_are_answered_with_a_status(admin, path, body, headers, status, words):
    got, answer = await admin.post(path, body, **headers)
    assert got == status, answer
    assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", status)
    assert words in answer["message"]


async def test_a_yaml_body_is_accepted_and_its_dates_stay_text(admin):
    text = b"metadata: {name: y}\ndata: {day: 2026-11-23}\n"
    status, body = await admin.post(CONFIGMAPS, text, media="application/yaml")
    assert (status, body["data"]) == (201, {"day": "2026-11-23"})


async def test_unknown_fields_are_refused_or_warned_of(admin):
    body = configmap("a") | {"dat": {}}
    status, answer = await admin.post(f"{CONFIGMAPS}?fieldValidation=Strict", body)
    assert (status, 'unknown field "dat"' in answer["message"]) == (400, True)
    status, _ = await admin.post(f"{CONFIGMAPS}?fieldValidation=Warn", body)
    assert status == 201
    assert 'unknown field \\"dat\\"' in admin.headers["Warning"]


async def test_a_dry_run_stores_nothing(admin):
    assert (await admin.post(f"{CONFIGMAPS}?dryRun=All", configmap("a")))[0] == 201
    assert (await admin.get(f"{CONFIGMAPS}/a"))[0] == 404


async def test_a_list_is_paged_and_stays_as_it_was_when_it_began(admin):
    for i in range(5):
        await admin.post(CONFIGMAPS, configmap(f"c{i}"))
    _, page = await admin.get(f"{CONFIGMAPS}?limit=2")
    assert page["metadata"]["remainingItemCount"] == 4  # every namespace has a ConfigMap of its own
    await admin.delete(f"{CONFIGMAPS}/c3")
    names, version = [], page["metadata"]["resourceVersion"]
    while True:
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == version
        token = page["metadata"].get("continue")
        if not token:
            break
        _, page = await admin.get(f"{CONFIGMAPS}?limit=2&continue={token}")
    assert names == ["c0", "c1", "c2", "c3", "c4", ROOT_CA]


async def test_a_continue_token_that_is_not_ours_is_refused(admin):
    status, body = await admin.get(f"{CONFIGMAPS}?limit=2&continue=bm9wZQ")
    assert (status, body["reason"]) == (400, "BadRequest")


async def test_selectors_choose_what_is_listed(admin):
    for name in ("a", "b"):
        body = configmap(name)
        body["metadata"]["labels"] = {"n": name}
        await admin.post(CONFIGMAPS, body)
    _, listed = await admin.get(f"{CONFIGMAPS}?labelSelector=n=b")
    assert [i["metadata"]["name"] for i in listed["items"]] == ["b"]
    _, listed = await admin.get(f"{CONFIGMAPS}?fieldSelector=metadata.name!=b")
    assert [i["metadata"]["name"] for i in listed["items"]] == ["a", ROOT_CA]
    assert (await admin.get(f"{CONFIGMAPS}?labelSelector=((("))[0] == 400


async def test_status_and_spec_are_changed_by_their_own_paths_only(admin):
    await admin.post(CRDS, CRD)
    _, lamp = await admin.post(
        LAMPS, {"metadata": {"name": "l"}, "spec": {"lit": True}, "status": {"x": 1}}
    )
    assert "status" not in lamp
    assert lamp["metadata"]["generation"] == 1
    change = {"spec": {"lit": False}, "status": {"x": 2}}
    _, lamp = await admin.merge(f"{LAMPS}/l/status", change)
    assert (lamp["spec"], lamp["status"], lamp["metadata"]["generation"]) == (
        {"lit": True},
        {"x": 2},
        1,
    )
    _, lamp = await admin.merge(f"{LAMPS}/l", {"spec": {"lit": False}, "status": {"x": 3}})
    assert (lamp["spec"], lamp["status"], lamp["metadata"]["generation"]) == (
        {"lit": False},
        {"x": 2},
        2,
    )


async def test_every_version_of_a_crd_shows_the_same_objects(admin):
    await admin.post(CRDS, CRD)
    await admin.post(LAMPS, {"metadata": {"name": "l"}, "spec": {"lit": True}})
    _, old = await admin.get(LAMPS.replace("v1/", "v1alpha1/") + "/l")
    assert (old["apiVersion"], old["spec"]) == ("demo.example.com/v1alpha1", {"lit": True})


async def test_crds_are_served_again_after_a_restart(certificates, tmp_path):
    async with running(certificates, tmp_path) as server:
        admin = await server.client()
        await admin.post(CRDS, CRD)
        _, lamp = await admin.post(LAMPS, {"metadata": {"name": "l"}, "spec": {"lit": True}})
    async with running(certificates, tmp_path) as server:
        admin = await server.client()
        assert (await admin.get(f"{LAMPS}/l"))[1] == lamp


async def test_deleting_a_crd_takes_its_objects_along(admin):
    await admin.post(CRDS, CRD)
    await admin.post(LAMPS, {"metadata": {"name": "l"}})
    await admin.delete(f"{CRDS}/lamps.demo.example.com")
    await until_gone(admin, f"{CRDS}/lamps.demo.example.com")
    assert (await admin.get(LAMPS))[0] == 404
    await admin.post(CRDS, CRD)
    assert (await admin.get(LAMPS))[1]["items"] == []


async def until_gone(client, path):
    while (await client.get(path))[0] != 404:
        await asyncio.sleep(0.01)


async def test_a_deleted_namespace_is_emptied_first(admin):
    await admin.post("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    path = "/api/v1/namespaces/shop/configmaps"
    held = configmap("held")
    held["metadata"]["finalizers"] = ["a/b"]
    await admin.post(path, held)
    status, body = await admin.delete("/api/v1/namespaces/shop")
    assert (status, body["status"]["phase"]) == (200, "Terminating")
    status, body = await admin.post(path, configmap("late"))
    assert (status, "being terminated" in body["message"]) == (403, True)
    await admin.merge(f"{path}/held", {"metadata": {"finalizers": None}})
    await until_gone(admin, "/api/v1/namespaces/shop")


async def test_a_dependent_goes_with_its_owner(admin):
    _, owner = await admin.post(CONFIGMAPS, configmap("owner"))
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    for name in ("kept", "goes"):
        body = configmap(name)
        body["metadata"]["ownerReferences"] = [reference] if name == "goes" else []
        await admin.post(CONFIGMAPS, body)
    await admin.delete(f"{CONFIGMAPS}/owner")
    await until_gone(admin, f"{CONFIGMAPS}/goes")
    assert (await admin.get(f"{CONFIGMAPS}/kept"))[0] == 200


async def test_a_bound_pod_is_given_time_and_removed_by_force(admin):
    await admin.post(PODS, pod("web", schedulerName="none"))
    binding = {"target": {"kind": "Node", "name": "n1"}}
    assert (await admin.post(f"{PODS}/web/binding", binding))[0] == 201
    status, body = await admin.post(f"{PODS}/web/binding", binding)
    assert (status, "already assigned" in body["message"]) == (409, True)
    _, marked = await admin.delete(f"{PODS}/web")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await admin.get(f"{PODS}/web"))[0] == 200
    wrong = {"preconditions": {"uid": "other"}, "gracePeriodSeconds": 0}
    assert (await admin.delete(f"{PODS}/web", wrong))[0] == 409
    status, last = await admin.delete(f"{PODS}/web", {"gracePeriodSeconds": 0})
    assert (status, last["kind"]) == (200, "Pod")
    assert (await admin.get(f"{PODS}/web"))[0] == 404


async def test_tables_and_metadata_are_made_on_request(admin):
    await admin.post(CONFIGMAPS, configmap("a", x="1"))
    _, table = await admin.get(CONFIGMAPS, Accept=TABLE)
    assert (table["kind"], table["rows"][0]["cells"][0]) == ("Table", "a")
    form = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    _, partial = await admin.get(CONFIGMAPS, Accept=form)
    assert partial["kind"] == "PartialObjectMetadataList"
    assert "data" not in partial["items"][0]
    status, _ = await admin.get(CONFIGMAPS, Accept="application/vnd.kubernetes.protobuf")
    assert status == 406


async def test_a_watch_shows_what_is_there_and_then_what_changes(admin):
    await admin.post(CONFIGMAPS, configmap("a"))
    async with admin.watch(f"{CONFIGMAPS}?watch=true") as events:
        first = await anext(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
        assert (await anext(events))["object"]["metadata"]["name"] == ROOT_CA
        await admin.merge(f"{CONFIGMAPS}/a", {"data": {"x": "1"}})
        await admin.delete(f"{CONFIGMAPS}/a")
        assert (await anext(events))["type"] == "MODIFIED"
        last = await anext(events)
        assert (last["type"], last["object"]["data"]) == ("DELETED", {"x": "1"})


async def test_a_watch_list_ends_its_beginning_with_a_bookmark(admin):
    await admin.post(CONFIGMAPS, configmap("a"))
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with admin.watch(f"{CONFIGMAPS}?{query}") as events:
        assert [(await anext(events))["type"] for _ in range(2)] == ["ADDED", "ADDED"]
        bookmark = await anext(events)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_resumes_without_loss_and_ends_when_its_time_is_up(admin):
    _, made = await admin.post(CONFIGMAPS, configmap("a"))
    for i in range(10):
        await admin.merge(f"{CONFIGMAPS}/a", {"data": {"n": str(i)}})
    version = made["metadata"]["resourceVersion"]
    query = f"watch=true&resourceVersion={version}&timeoutSeconds=1&allowWatchBookmarks=true"
    async with admin.watch(f"{CONFIGMAPS}?{query}") as events:
        seen = [event async for event in events]
    assert [e["object"]["data"]["n"] for e in seen[:-1]] == [str(i) for i in range(10)]
    assert seen[-1]["type"] == "BOOKMARK"


async def test_a_watch_from_another_life_is_told_to_list_again(admin):
    async with admin.watch(f"{CONFIGMAPS}?watch=true&resourceVersion=99999999") as events:
        event = await anext(events)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_table_watch_names_its_columns_once(admin):
    for name in ("a", "b"):
        await admin.post(CONFIGMAPS, configmap(name))
    async with admin.session.get(
        f"{admin.base}{CONFIGMAPS}?watch=true&timeoutSeconds=1", headers={"Accept": TABLE}
    ) as answer:
        tables = [json.loads(line)["object"] async for line in answer.content]
    assert [bool(t["columnDefinitions"]) for t in tables] == [True, False, False]


async def test_discovery_speaks_every_dialect(admin):
    form = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
    for version in ("v2", "v2beta1"):
        _, body = await admin.get("/apis", Accept=form.format(version) + ",application/json")
        assert body["apiVersion"] == f"apidiscovery.k8s.io/{version}"
        assert f"v={version}" in admin.headers["Content-Type"]
    assert (await admin.get("/apis"))[1]["kind"] == "APIGroupList"
    assert (await admin.get("/api/v1/"))[1]["kind"] == "APIResourceList"
    assert (await admin.get("/version/"))[1]["minor"] == "32"
    for path in ("/healthz", "/livez", "/readyz"):
        assert await admin.get(path) == (200, "ok")
