import copy

import pytest

from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource
from kubecore.patching.patches import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    PatchError,
    apply_patch,
)

REGISTRY = Registry()
PODS = REGISTRY.find("", "v1", "pods")
NODES = REGISTRY.find("", "v1", "nodes")
CUSTOM = Resource("x.y", "v1", "things", "Thing", "thing", namespaced=True, schema={}, custom=True)
POD = {
    "metadata": {"name": "web", "finalizers": ["a", "b"], "labels": {"x": "1"}},
    "spec": {
        "containers": [
            {"name": "a", "image": "one", "env": [{"name": "A", "value": "1"}], "args": ["x"]},
            {"name": "b", "image": "two", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}


def containers(pod):
    return [c["name"] for c in pod["spec"]["containers"]]


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([{"op": "add", "path": "/b", "value": 2}], {"a": [1, 2], "b": 2}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "replace", "path": "/a/1", "value": 9}], {"a": [1, 9]}),
        ([{"op": "replace", "path": "", "value": {"c": 1}}], {"c": 1}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ([{"op": "move", "from": "/a", "path": "/c"}], {"c": [1, 2]}),
        ([{"op": "copy", "from": "/a/0", "path": "/c"}], {"a": [1, 2], "c": 1}),
        ([{"op": "test", "path": "/a/0", "value": 1}], {"a": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": [1, 2], "x/y~z": 1}),
    ],
)
def test_a_json_patch_does_what_rfc_6902_says(patch, expected):
    assert apply_patch(PODS, JSON_PATCH, {"a": [1, 2]}, patch) == expected


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ({}, 400),
        ([{"op": "jump", "path": "/a"}], 400),
        ([{"op": "add", "path": "/b"}], 400),
        ([{"op": "move", "path": "/b"}], 400),
        (["x"], 400),
        ([{"op": "remove", "path": "/nope"}], 422),
        ([{"op": "replace", "path": "/nope", "value": 1}], 422),
        ([{"op": "add", "path": "/a/9", "value": 1}], 422),
        ([{"op": "add", "path": "/a/01x", "value": 1}], 422),
        ([{"op": "test", "path": "/a/0", "value": True}], 422),
        ([{"op": "add", "path": "a", "value": 1}], 422),
        ([{"op": "remove", "path": ""}], 422),
        ([{"op": "move", "from": "/a", "path": "/a/b"}], 422),
        ([{"op": "replace", "path": "", "value": []}], 422),
        ([{"op": "test", "path": "/a", "value": [1, 2]}] * 10001, 413),
    ],
)
def test_a_json_patch_that_does_not_fit_changes_nothing(patch, status):
    current = {"a": [1, 2]}
    with pytest.raises(PatchError) as caught:
        apply_patch(PODS, JSON_PATCH, current, patch)
    assert (caught.value.status, current) == (status, {"a": [1, 2]})


def test_a_merge_patch_replaces_lists_and_null_removes():
    patch = {"a": None, "b": {"c": 1, "d": None}, "l": [9]}
    current = {"a": 1, "b": {"d": 1, "e": 2}, "l": [1, 2]}
    assert apply_patch(PODS, MERGE_PATCH, current, patch) == {"b": {"e": 2, "c": 1}, "l": [9]}


def test_neither_argument_of_a_strategic_patch_changes():
    current, patch = copy.deepcopy(POD), {"spec": {"containers": [{"name": "a", "image": "new"}]}}
    before = copy.deepcopy(patch)
    apply_patch(PODS, STRATEGIC_PATCH, current, patch)
    assert (current, patch) == (POD, before)


def test_a_strategic_patch_merges_lists_by_their_key():
    patch = {"spec": {"containers": [{"name": "a", "image": "new", "args": ["y"]}, {"name": "c"}]}}
    patched = apply_patch(PODS, STRATEGIC_PATCH, POD, patch)
    assert containers(patched) == ["a", "b", "c"]
    assert patched["spec"]["containers"][0] == {
        "name": "a",
        "image": "new",
        "env": [{"name": "A", "value": "1"}],
        "args": ["y"],  # an atomic list is replaced
    }


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}, ["b"]),
        ({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}, ["z"]),
        ({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}, ["b", "a"]),
        (
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                    "containers": [{"name": "c"}],
                }
            },
            ["c", "b", "a"],
        ),
    ],
)
def test_a_strategic_patch_deletes_replaces_and_orders_elements(patch, expected):
    assert containers(apply_patch(PODS, STRATEGIC_PATCH, POD, patch)) == expected


def test_a_set_of_scalars_is_merged_and_can_lose_elements():
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert apply_patch(PODS, STRATEGIC_PATCH, POD, patch)["metadata"]["finalizers"] == ["b", "c"]


def test_retain_keys_changes_the_member_of_a_union():
    volume = {"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}
    patched = apply_patch(PODS, STRATEGIC_PATCH, POD, {"spec": {"volumes": [volume]}})
    assert patched["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]


def test_a_map_can_be_replaced_and_emptied():
    replaced = {"metadata": {"labels": {"$patch": "replace", "y": "2"}}}
    assert apply_patch(PODS, STRATEGIC_PATCH, POD, replaced)["metadata"]["labels"] == {"y": "2"}
    removed = {"metadata": {"labels": {"x": None}}}
    assert apply_patch(PODS, STRATEGIC_PATCH, POD, removed)["metadata"]["labels"] == {}


def test_node_taints_are_replaced_and_node_conditions_merged():
    node = {
        "metadata": {"name": "n"},
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]
        },
    }
    patch = {
        "spec": {"taints": [{"key": "b", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    }
    patched = apply_patch(NODES, STRATEGIC_PATCH, node, patch)
    assert [t["key"] for t in patched["spec"]["taints"]] == ["b"]
    assert [c["status"] for c in patched["status"]["conditions"]] == ["Unknown", "True"]


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ({"spec": {"containers": [{"image": "x"}]}}, "does not contain declared merge key: name"),
        ({"spec": {"$patch": "explode"}}, "Unknown patch type: explode"),
        ({"spec": {"$setElementOrder/containers": "x"}}, "must be a list"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}, "must be a list"),
        ({"spec": {"$retainKeys": "x"}}, "must be a list"),
        ([], "not a JSON object"),
    ],
)
def test_a_strategic_patch_that_makes_no_sense_is_refused(patch, text):
    with pytest.raises(PatchError, match=text) as caught:
        apply_patch(PODS, STRATEGIC_PATCH, POD, patch)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("resource", "kind"), [(PODS, "application/yaml"), (CUSTOM, STRATEGIC_PATCH), (PODS, "")]
)
def test_an_unknown_patch_type_is_415(resource, kind):
    with pytest.raises(PatchError) as caught:
        apply_patch(resource, kind, {}, {})
    assert caught.value.status == 415
