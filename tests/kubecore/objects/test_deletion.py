from __future__ import annotations

import pytest

from kubecore.objects.deletion import MAX_GRACE_S, DeleteOptions, is_removable, mark

NOW = 1_800_000_000.0


def pod(**changes):
    spec = {"nodeName": "n1", "terminationGracePeriodSeconds": 20} | changes.pop("spec", {})
    return {"metadata": {"name": "p", **changes}, "spec": spec, "status": {"phase": "Running"}}


@pytest.fixture
def pods(registry):
    return registry.find("", "v1", "pods")


@pytest.mark.parametrize(
    ("obj", "asked_s", "grace_s"),
    [
        pytest.param(pod(), None, 20, id="its-own-grace"),
        pytest.param(pod(), 5, 5, id="the-one-asked-for"),
        pytest.param(pod(), -1, 1, id="negative-is-one-second"),
        pytest.param(pod(spec={"nodeName": ""}), None, 0, id="no-node"),
        pytest.param(pod(), 2**63 - 1, MAX_GRACE_S, id="longer-than-dates-go"),
    ],
)
def test_a_pod_is_given_its_grace_period(pods, obj, asked_s, grace_s):
    assert mark(pods, obj, DeleteOptions(asked_s), NOW)
    assert obj["metadata"]["deletionGracePeriodSeconds"] == grace_s
    assert is_removable(pods, obj) == (grace_s == 0)


def test_an_ended_pod_goes_at_once(pods):
    obj = pod() | {"status": {"phase": "Succeeded"}}
    mark(pods, obj, DeleteOptions(), NOW)
    assert is_removable(pods, obj)


def test_a_second_delete_may_only_shorten_the_grace_period(pods):
    obj = pod()
    mark(pods, obj, DeleteOptions(), NOW)
    assert not mark(pods, obj, DeleteOptions(60), NOW + 1)
    assert not mark(pods, obj, DeleteOptions(), NOW + 1)
    assert mark(pods, obj, DeleteOptions(3), NOW + 1)
    assert obj["metadata"]["deletionGracePeriodSeconds"] == 3
    assert mark(pods, obj, DeleteOptions(0), NOW + 2)
    assert is_removable(pods, obj)


def test_a_finalizer_holds_even_a_forced_delete(pods):
    obj = pod(finalizers=["a/b"])
    mark(pods, obj, DeleteOptions(0), NOW)
    assert not is_removable(pods, obj)


def test_a_namespace_is_held_by_its_content(registry):
    namespaces = registry.find("", "v1", "namespaces")
    obj = {"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}}
    mark(namespaces, obj, DeleteOptions(), NOW)
    assert obj["status"] == {"phase": "Terminating"}
    assert not is_removable(namespaces, obj)
