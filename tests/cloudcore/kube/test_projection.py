from __future__ import annotations

import json

import msgspec
import pytest

from cloudcore.kube.projection import project, project_body
from cloudcore.kube.resources import PODS, read_object
from synccore.messages import ObjectKey

WATCHED = (
    b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"u-1",'
    b'"resourceVersion":"7","labels":{"b":"1","a":"2"},"managedFields":[{"manager":"x"}]},'
    b'"spec":{"nodeName":"edge-1","x":1.50},"status":{"phase":"Running"}}'
)
BODY = (
    b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default","uid":"u-1",'
    b'"labels":{"b":"1","a":"2"}},"spec":{"nodeName":"edge-1","x":1.50}}'
)


def test_status_managed_fields_and_resource_version_are_dropped_and_order_kept():
    assert project_body(PODS, WATCHED) == BODY


def test_projecting_twice_changes_nothing():
    assert project_body(PODS, BODY) == BODY


def test_an_object_from_a_list_gives_the_same_bytes_as_from_a_watch():
    listed = WATCHED.replace(b'"kind":"Pod","apiVersion":"v1",', b"")
    assert project_body(PODS, listed) == BODY


def test_a_status_write_does_not_change_the_version_but_a_spec_write_does():
    first = project(PODS, read_object("Pod", WATCHED))
    status = WATCHED.replace(b"Running", b"Failed").replace(b'"7"', b'"8"')
    assert project(PODS, read_object("Pod", status)).version == first.version
    spec = WATCHED.replace(b"1.50", b"1.51")
    assert project(PODS, read_object("Pod", spec)).version != first.version


def test_reading_takes_identity_only():
    obj = read_object("Pod", WATCHED)
    assert (obj.key, obj.uid, obj.resource_version) == (
        ObjectKey("Pod", "default", "web"),
        "u-1",
        "7",
    )
    assert json.loads(obj.body)["status"]


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"metadata":7}', b'{"metadata":{"name":"a"'])
def test_what_is_no_object_is_refused(raw):
    with pytest.raises(msgspec.DecodeError):
        project_body(PODS, raw)


def test_a_change_of_a_readiness_gate_reaches_the_node_and_no_other_status_does():
    def raw(**conditions):
        made = [
            {"type": t, "status": s, "lastTransitionTime": "now"} for t, s in conditions.items()
        ]
        spec = {"readinessGates": [{"conditionType": "b"}, {"conditionType": "a"}]}
        pod = {"metadata": {"name": "web"}, "spec": spec}
        return json.dumps(pod | {"status": {"phase": "Running", "conditions": made}}).encode()

    body = project_body(PODS, raw(Ready="False", b="False", a="True"))
    assert json.loads(body)["status"] == {
        "conditions": [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]
    }
    assert project_body(PODS, body) == body
    assert project_body(PODS, raw(Ready="True", a="True", b="False")) == body
    assert project_body(PODS, raw(Ready="True", a="True", b="True")) != body
