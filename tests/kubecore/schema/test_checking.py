import copy

import pytest

from kubecore.kinds.registry import Registry
from kubecore.schema.checking import InvalidObjectError, StrictDecodingError, check
from tests.kubecore.samples import device_crd, make_pod

REGISTRY = Registry()
REGISTRY.install_crd(device_crd())
DEVICES = REGISTRY.find("devices.kubeedge.io", "v1beta1", "devices")
RBAC = "rbac.authorization.k8s.io"


def find(plural, group=""):
    return REGISTRY.find(group, "v1", plural)


def take(plural, obj, **options):
    return check(find(plural), obj, **options).obj


def refused(resource, obj, **options):
    with pytest.raises(InvalidObjectError) as caught:
        check(resource, obj, **options)
    return [str(cause) for cause in caught.value.causes]


# -- decoding


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"spec": {"containers": "x"}},
            "json: cannot unmarshal string into Go struct field Pod.spec.containers",
        ),
        ({"spec": []}, "json: cannot unmarshal array into Go struct field Pod.spec"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "cannot unmarshal number into Go struct field Pod.metadata.labels[a]",
        ),
        (
            {"metadata": {"labels": ["a"]}},
            "cannot unmarshal array into Go struct field Pod.metadata.labels",
        ),
        ({"spec": {"hostNetwork": "yes"}}, "of type bool"),
        ({"spec": {"priority": 1.5}}, "of type int32"),
        ({"spec": {"priority": True}}, "cannot unmarshal bool"),
        ({"spec": {"priority": 1 << 31}}, "cannot unmarshal number 2147483648"),
        ({"metadata": {"creationTimestamp": "now"}}, 'parsing time "now"'),
        ({"spec": {"overhead": {"cpu": "much"}}}, "quantities must match the regular expression"),
        (
            {"apiVersion": "v2"},
            "the apiVersion in the data (v2) does not match the expected apiVersion (v1)",
        ),
        ({"kind": "Node"}, "the kind in the data (Node)"),
    ],
)
def test_a_wrong_type_is_named_with_its_place(change, problem):
    with pytest.raises(StrictDecodingError) as caught:
        check(find("pods"), make_pod() | change)
    assert caught.value.message.startswith('Pod in version "v1" cannot be handled as a Pod: ')
    assert problem in caught.value.message


def test_a_body_that_is_no_object_is_refused():
    with pytest.raises(StrictDecodingError):
        check(find("pods"), [])


def test_base64_is_checked_where_the_kind_has_bytes():
    with pytest.raises(StrictDecodingError, match="illegal base64 data"):
        check(find("secrets"), {"metadata": {"name": "s"}, "data": {"a": "!"}})


def test_a_body_that_is_nested_too_deep_is_refused():
    schema = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}, "not": schema}
    crd = device_crd()
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    with pytest.raises(StrictDecodingError, match="nested deeper than 100 levels"):
        check(find("customresourcedefinitions", "apiextensions.k8s.io"), crd)


UNKNOWN = {"spec": {"foo": 1, "containers": [{"name": "a", "image": "b", "imagee": "c"}]}}


def test_unknown_fields_are_an_error_a_warning_or_nothing():
    body = make_pod() | UNKNOWN
    both = 'unknown field "spec.containers[0].imagee", unknown field "spec.foo"'
    with pytest.raises(StrictDecodingError) as caught:
        check(find("pods"), body, field_validation="Strict")
    assert caught.value.message.endswith(f"strict decoding error: {both}")
    warned = check(find("pods"), body, field_validation="Warn")
    assert ", ".join(warned.warnings) == both
    assert "foo" not in warned.obj["spec"]
    assert check(find("pods"), body, field_validation="Ignore").warnings == []


def test_nulls_and_missing_identity_are_as_if_left_out():
    body = {"metadata": {"name": "web", "creationTimestamp": None}, "spec": make_pod()["spec"]}
    taken = take("pods", body)
    assert taken["metadata"] == {"name": "web"}
    assert (taken["apiVersion"], taken["kind"]) == ("v1", "Pod")


def test_the_senders_object_stays_as_it_is():
    body = make_pod(volumes=[{"name": "v"}])
    before = copy.deepcopy(body)
    check(find("pods"), body)
    device = {"metadata": {"name": "d"}, "spec": {"nodeName": "n", "x": 1}}
    device_before = copy.deepcopy(device)
    check(DEVICES, device, field_validation="Ignore")
    assert (body, device) == (before, device_before)


# -- names and labels


@pytest.mark.parametrize(
    ("plural", "group", "name", "ok"),
    [
        ("pods", "", "web.a-1", True),
        ("pods", "", "Web", False),
        ("pods", "", "-web", False),
        ("pods", "", "a" * 254, False),
        ("namespaces", "", "a.b", False),
        ("namespaces", "", "a" * 64, False),
        ("services", "", "1a", False),
        ("roles", RBAC, "system:node:x", True),
        ("roles", RBAC, "a/b", False),
        ("roles", RBAC, "..", False),
        ("configmaps", "", "kube-root-ca.crt", True),
    ],
)
def test_names_follow_the_rules_of_their_kind(plural, group, name, ok):
    body = {"metadata": {"name": name}}
    if plural == "pods":
        body = make_pod(name)
    if ok:
        assert check(find(plural, group), body)
    else:
        assert any(
            c.startswith("metadata.name: Invalid value") for c in refused(find(plural, group), body)
        )


def test_metadata_is_checked_as_a_whole():
    metadata = {
        "namespace": "a",
        "labels": {"a b": "x", "ok": "-"},
        "annotations": {"-": "x", "big": "x" * 300_000},
        "finalizers": ["no spaces"],
    }
    fields = [c.split(":")[0] for c in refused(find("namespaces"), {"metadata": metadata})]
    assert fields == [
        "metadata.name",
        "metadata.namespace",
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
        "metadata.annotations",
        "metadata.finalizers",
    ]


def test_a_core_kind_is_named_plainly_and_others_with_their_group():
    with pytest.raises(InvalidObjectError) as caught:
        check(find("pods"), {"metadata": {"name": "web"}})
    assert str(caught.value) == 'Pod "web" is invalid: spec.containers: Required value'
    with pytest.raises(InvalidObjectError) as caught:
        check(DEVICES, {"metadata": {"name": "lamp"}, "spec": {"nodeName": 3}})
    assert str(caught.value) == (
        'Device.devices.kubeedge.io "lamp" is invalid: spec.nodeName: Invalid value: "integer": '
        'spec.nodeName in body must be of type string: "integer"'
    )


# -- custom resources


def device(**spec):
    return {"metadata": {"name": "lamp"}, "spec": {"nodeName": "edge-1", **spec}}


def test_a_custom_resource_gets_its_defaults():
    body = device(
        properties=[{"name": "t"}], mode=None, note=None, deep={"level": None}, cycle=None
    )
    assert check(DEVICES, body).obj["spec"] == {
        "nodeName": "edge-1",
        "properties": [{"name": "t", "unit": "C"}],
        "mode": "auto",
        "note": None,
        "deep": {"level": 3},
    }


def test_a_custom_resource_loses_what_its_schema_does_not_have():
    body = device(bogus=1, config={"any": {"thing": 1}}, properties=[{"name": "t", "x": 1}])
    body["extra"] = 1
    body["metadata"]["colour"] = "red"
    checked = check(DEVICES, body, field_validation="Warn")
    assert checked.warnings == [
        'unknown field "extra"',
        'unknown field "metadata.colour"',
        'unknown field "spec.bogus"',
        'unknown field "spec.properties[0].x"',
    ]
    assert checked.obj["spec"]["config"] == {"any": {"thing": 1}}
    assert "bogus" not in checked.obj["spec"]


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ({"mode": "x"}, 'spec.mode: Unsupported value: "x": supported values: "auto", "manual"'),
        ({"nodeName": "a" * 11}, "spec.nodeName: Too long: may not be more than 10 bytes"),
        (
            {"cycle": 0},
            "spec.cycle: Invalid value: 0: spec.cycle in body should be greater than or equal to 1",
        ),
        (
            {"cycle": 101},
            "spec.cycle: Invalid value: 101: spec.cycle in body should be less than or equal to 100",
        ),
        (
            {"cycle": "1"},
            'spec.cycle: Invalid value: "string": spec.cycle in body must be of type integer: "string"',
        ),
        (
            {"cycle": True},
            'spec.cycle: Invalid value: "boolean": spec.cycle in body must be of type integer: "boolean"',
        ),
        (
            {"port": 1.5},
            'spec.port: Invalid value: "number": spec.port in body must be of type integer,string: "number"',
        ),
        (
            {"code": "A1"},
            "spec.code: Invalid value: \"A1\": spec.code in body should match '^[a-z]+$'",
        ),
        (
            {"code": "a"},
            'spec.code: Invalid value: "a": spec.code in body should be at least 2 chars long',
        ),
        ({"ratio": 0}, "spec.ratio: Invalid value: 0: spec.ratio in body should be greater than 0"),
        (
            {"when": "x"},
            'spec.when: Invalid value: "x": spec.when in body must be of type date-time: "x"',
        ),
        ({"tags": ["a", "b", "c"]}, "spec.tags: Too many: 3: must have at most 2 items"),
        ({"tags": ["a", "a"]}, 'spec.tags[1]: Duplicate value: "a"'),
        (
            {"tags": [1]},
            'spec.tags[0]: Invalid value: "integer": spec.tags[0] in body must be of type string: "integer"',
        ),
        ({"properties": [{}]}, "spec.properties[0].name: Required value"),
        ({"properties": [{"name": "a"}] * 2}, 'spec.properties[1]: Duplicate value: {"name":"a"}'),
        (
            {"limits": {"a": "x"}},
            'spec.limits.a: Invalid value: "string": spec.limits.a in body must be of type integer: "string"',
        ),
        (
            {"limits": {"a": 1, "b": 2, "c": 3}},
            "spec.limits: Too many: 3: must have at most 2 items",
        ),
        (
            {"choice": {}},
            'spec.choice: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf)',
        ),
        (
            {"choice": {"a": "1", "b": "2"}},
            'spec.choice: Invalid value: "": "spec.choice" must validate one and only one schema (oneOf)',
        ),
    ],
)
def test_each_rule_of_a_structural_schema_names_what_breaks_it(spec, cause):
    assert cause in refused(DEVICES, device(**spec))


@pytest.mark.parametrize("port", [1, "http"])
def test_int_or_string_takes_both(port):
    assert check(DEVICES, device(port=port)).obj["spec"]["port"] == port


def test_a_missing_required_field_of_a_custom_resource_is_named():
    assert refused(DEVICES, {"metadata": {"name": "lamp"}, "spec": {}}) == [
        "spec.nodeName: Required value"
    ]
