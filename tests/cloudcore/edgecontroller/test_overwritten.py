"""Who writes over a pod's status is noticed, whatever the order of answers and watch; who writes elsewhere is not."""

from __future__ import annotations

import json

import pytest

from cloudcore.edgecontroller.overwritten import WrittenStatuses
from cloudcore.kube.resources import read_object
from synccore.messages import ObjectKey

KEY = ObjectKey("Pod", "default", "web")


def body(version, *, ready="True", uid="u-1", labels=None, **status):
    conditions = [{"type": "Ready", "status": ready, "lastProbeTime": None}]
    status = {"phase": "Running", "conditions": conditions, **status}
    meta = {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": version}
    return json.dumps({"metadata": {**meta, "labels": labels or {}}, "status": status}).encode()


class Watch:
    """The statuses, and what the watch has shown."""

    def __init__(self):
        self.told, self.version = [], ""
        self.statuses = WrittenStatuses(self.told.append)

    def write(self, answer):
        self.statuses.writing(KEY)
        self.statuses.wrote("edge-1", answer, lambda _key: self.version)

    def show(self, *bodies):
        for one in bodies:
            obj = read_object("Pod", one)
            self.statuses.look(obj)
            self.version = obj.resource_version


@pytest.fixture
def watch():
    return Watch()


@pytest.mark.parametrize(
    "foreign",
    [
        body("3", ready="False"),
        body("3", phase="Failed"),
        body("3", reason="ByHand"),
        body("3", podIP="10.0.0.9"),
        body("3", containerStatuses=[{"name": "app", "restartCount": 9}]),
        body("3", conditions=[]),
        body("3", conditions="none"),
    ],
)
def test_what_the_node_owns_is_noticed_once(watch, foreign):
    watch.write(body("2"))
    watch.show(body("1", ready="False"), body("2"), foreign, foreign)
    assert watch.told == ["edge-1"]


@pytest.mark.parametrize(
    "other",
    [
        body("3", labels={"a": "b"}),
        body("3", nominatedNodeName="n"),
        body(
            "3",
            conditions=[
                {"type": "example.com/gate", "status": "True"},
                {"type": "Ready", "status": "True"},
            ],
        ),
    ],
)
def test_what_others_own_is_theirs(watch, other):
    watch.write(body("2"))
    watch.show(body("2"), other)
    assert watch.told == []


def test_states_before_the_write_say_nothing_even_if_the_watch_is_late(watch):
    watch.write(body("5"))
    watch.show(body("3", ready="False"), body("4", phase="Pending"))
    assert watch.told == []
    watch.show(body("5"), body("6", ready="False"))
    assert watch.told == ["edge-1"]


def test_a_watch_that_is_faster_than_the_answer_is_no_other_writer(watch):
    watch.write(body("2"))
    watch.show(body("2"))
    watch.statuses.writing(KEY)
    watch.show(body("3", ready="False"))  # our own second write
    watch.statuses.wrote("edge-1", body("3", ready="False"), lambda _key: watch.version)
    assert watch.told == []
    watch.show(body("4", ready="True"))
    assert watch.told == ["edge-1"]


def test_another_pod_of_the_name_and_one_that_is_gone_are_not_compared(watch):
    watch.write(body("2"))
    watch.show(body("2"), body("3", uid="u-2", ready="False"))
    watch.write(body("4"))
    watch.show(body("4"))
    watch.statuses.forget(KEY)
    watch.show(body("5", ready="False"))
    assert watch.told == []


def test_an_answer_that_is_no_pod_is_nothing_to_compare_with(watch):
    watch.write(b"[]")
    watch.write(body("2", conditions=7))
    watch.show(body("2"), body("3", ready="False"))
    assert watch.told == []
