from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.spec.fields import unknown_fields
from edgecore.edged.spec.podspec import PodSpecError, decode_identity, decode_pod
from edgecore.edged.spec.quantity import parse_quantity
from tests.fakes.pods import make_pod, pod_object


def decode(obj):
    return decode_pod(json.dumps(obj).encode())


def test_nulls_are_as_good_as_absent():
    pod, tree = decode(pod_object(initContainers=None, volumes=None))
    assert pod.spec.init_containers == ()
    assert "volumes" not in tree["spec"]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("host:5000/busybox", "Always"),
        ("busybox:1", "IfNotPresent"),
        ("host:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image, policy):
    pod = make_pod(containers=[{"name": "app", "image": image}])
    assert pod.spec.containers[0].pull_policy == policy


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'"x"', b"null", b"\xff", b'"\xff"', b"[" * 100_000]
)
def test_what_is_no_pod_is_refused_without_a_crash(body):
    with pytest.raises(PodSpecError):
        decode_pod(body)
    assert decode_identity(body) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=16,
    )
)
@pytest.mark.timeout(20)
def test_any_json_for_a_spec_is_a_pod_or_refused(spec):
    try:
        _, tree = decode({**pod_object(), "spec": spec})
    except PodSpecError:
        return
    unknown_fields(tree["spec"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("64Mi", "67108864"),
        ("2e3", "2000"),
        ("1E", "1e18"),
        (".5k", "500"),
        (3, "3"),
    ],
)
def test_quantities(text, value):
    assert parse_quantity(text) == parse_quantity(value)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1KB", "--1", "1e", "1e99999999999"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)
