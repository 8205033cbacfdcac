"""No body, patch or selector may raise anything but the errors that become a clear answer."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kubecore.kinds.registry import Registry
from kubecore.kinds.shapes import shape_of
from kubecore.patching.patches import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    PatchError,
    apply_patch,
)
from kubecore.printing.tables import table
from kubecore.schema.checking import InvalidObjectError, StrictDecodingError, check
from kubecore.values.selectors import SelectorError, parse_field_selector, parse_label_selector
from tests.kubecore.samples import DEVICE_SCHEMA, device_crd, make_pod

REGISTRY = Registry()
REGISTRY.install_crd(device_crd())
RESOURCES = REGISTRY.resources()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "a", "1", "Always", "Exists", "object", "2026-01-01T00:00:00Z", "(", "100m"]
    )
)
DIRECTIVES = [
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
]
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "spec", "containers", "key", *DIRECTIVES]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def bodies(shape, depth=0):
    """Objects with the types of the kind, a few fields of each struct, and values nobody would choose."""
    if depth > 9 and shape.type in ("object", "map", "array"):
        return st.just([] if shape.type == "array" else {})
    if shape.type == "object":
        # What our own rules look into comes up in every second example, the rest now and then.
        names = st.sampled_from(sorted(shape.properties)) | st.sampled_from(
            [n for n in ("spec", "containers", "volumes", "ports", "env") if n in shape.properties]
            or sorted(shape.properties)
        )
        return st.sets(names, max_size=4).flatmap(
            lambda chosen: st.fixed_dictionaries(
                {
                    name: bodies(shape.properties[name].shape, depth + 1)
                    for name in sorted({*chosen, *shape.required})
                }
            )
        )
    if shape.type in ("array", "map") and shape.element is not None:
        element = bodies(shape.element, depth + 1)
        if shape.type == "array":
            return st.lists(element, max_size=2)
        return st.dictionaries(st.sampled_from(["a", "b c", "cpu"]), element, max_size=2)
    texts = ["", "a", "A b", "Always", "Exists", "NoSchedule", "ClusterIP", "Local"]
    if shape.format == "date-time":
        texts = ["2026-01-01T00:00:00Z"]
    return {
        "string": st.sampled_from(["", "YQ=="] if shape.format == "byte" else texts),
        "boolean": st.booleans(),
        "integer": st.integers(-3, 70000),
        "number": st.floats(0, 1),
        "int-or-string": st.sampled_from([1, "http"]),
        "quantity": st.sampled_from(["1", "500m", "-1", 2, "1.5Gi"]),
    }.get(shape.type, ANY)


KINDS = [r for r in RESOURCES if r.definition and r.kind != "CustomResourceDefinition"]


@pytest.mark.parametrize("resource", KINDS, ids=lambda r: r.kind)
@pytest.mark.timeout(20)
def test_any_body_of_a_built_in_kind_is_taken_or_refused(resource):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies(shape_of(resource.definition)))
    def takes(body):
        body = {k: v for k, v in body.items() if k not in ("apiVersion", "kind")}
        metadata = body.get("metadata")
        body["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "name": "x"}
        with suppress(InvalidObjectError, StrictDecodingError):
            checked = check(resource, body, field_validation="Ignore").obj
            assert check(resource, checked, old=checked).obj == checked
            assert table(resource, [checked], list_meta={})["rows"]

    takes()


@settings(max_examples=100, deadline=None)
@given(ANY)
@pytest.mark.timeout(20)
def test_any_custom_resource_is_taken_or_refused(value):
    device = REGISTRY.find("devices.kubeedge.io", "v1beta1", "devices")
    properties = DEVICE_SCHEMA["properties"]["spec"]["properties"]
    specs = [value, {"nodeName": "n"} | dict.fromkeys(properties, value)]
    for spec in specs:
        with suppress(InvalidObjectError, StrictDecodingError):
            check(device, {"metadata": {"name": "x"}, "spec": spec}, field_validation="Ignore")


@settings(max_examples=150, deadline=None)
@given(ANY, st.sampled_from(["spec", "schema", "version", "names", "column"]))
@pytest.mark.timeout(20)
def test_any_crd_is_taken_or_refused(value, place):
    crd = device_crd()
    version = crd["spec"]["versions"][0]
    match place:
        case "spec":
            crd["spec"] = value
        case "schema":
            version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"a": value}}}
        case "version":
            crd["spec"]["versions"] = [value]
        case "names":
            crd["spec"]["names"] = value
        case "column":
            version["additionalPrinterColumns"] = [
                {"name": "A", "type": "string", "jsonPath": value}
            ]
    with suppress(InvalidObjectError, StrictDecodingError):
        resource = REGISTRY.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        checked = check(resource, crd, field_validation="Ignore").obj
        registry = Registry()
        registry.install_crd(checked)
        served = registry.find("devices.kubeedge.io", "v1beta1", "devices")
        if served is not None:
            with suppress(InvalidObjectError, StrictDecodingError):
                check(served, {"metadata": {"name": "x"}, "spec": {}, "a": [{"a": 1}]})


@settings(max_examples=200, deadline=None)
@given(ANY, st.sampled_from([JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH]))
@example({"$retainKeys": [[]]}, STRATEGIC_PATCH)
@pytest.mark.timeout(20)
def test_any_patch_is_applied_or_refused(patch, kind):
    pods = REGISTRY.find("", "v1", "pods")
    current = make_pod()
    with suppress(PatchError):
        apply_patch(pods, kind, current, patch)
    assert current == make_pod()


OPERATION = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"])},
    optional={
        "path": st.sampled_from(
            ["", "/", "/spec", "/spec/containers/0", "/spec/containers/-", "/x/y", "x"]
        ),
        "from": st.sampled_from(["", "/spec", "/spec/containers/0/name", "/nope"]),
        "value": ANY,
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATION, max_size=4))
def test_any_json_patch_is_applied_or_refused(patch):
    with suppress(PatchError):
        apply_patch(REGISTRY.find("", "v1", "pods"), JSON_PATCH, make_pod(), patch)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab=!<>(),. \\/in-", max_size=20))
def test_any_selector_text_is_taken_or_refused(text):
    with suppress(SelectorError):
        parse_label_selector(text)({"a": "b"})
    with suppress(SelectorError):
        parse_field_selector(text)({"a": {"b": True}})
