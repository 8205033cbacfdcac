"""Acceptance: whether a Device can be served, and what its condition says."""

import copy
import json

import pytest

from cloudcore.devicecontroller.acceptance import condition_patch, judge, refs_of
from tests.fakes.devices import MODEL, lamp

NOW = "2026-01-01T00:00:00Z"


def judged(document, model=MODEL, nodes=("edge-1",)):
    body = json.dumps(model).encode() if model else None
    return judge(json.dumps(document).encode(), lambda _: body, nodes.__contains__)


def broken_model():
    model = copy.deepcopy(MODEL)
    model["spec"]["properties"][1]["minimum"] = "many"
    return model


def changed(**spec):
    document = lamp(power="true")
    document["spec"] |= spec
    return document


@pytest.mark.parametrize(
    ("document", "model", "reason", "said"),
    [
        (lamp(brightness="40"), MODEL, "Accepted", "served by node edge-1 as model lamp"),
        (lamp(brightness="400"), MODEL, "InvalidDevice", "spec.properties[1].desired.value: "),
        (lamp(brightness="400"), MODEL, "InvalidDevice", "'400' is more than the maximum of 100"),
        (lamp(temperature="4"), MODEL, "InvalidDevice", "is ReadOnly in its model"),
        (changed(nodeName=3), MODEL, "InvalidDevice", "spec.nodeName: Expected `str`, got `int`"),
        (changed(nodeName=""), MODEL, "NodeNotFound", "spec.nodeName: is empty"),
        (changed(nodeName="edge-9"), MODEL, "NodeNotFound", "spec.nodeName: no node 'edge-9'"),
        (changed(deviceModelRef={}), MODEL, "ModelNotFound", "deviceModelRef.name: is empty"),
        (lamp(), None, "ModelNotFound", "no DeviceModel 'lamp' in namespace 'default'"),
        (lamp(), broken_model(), "InvalidModel", "spec.properties[1].minimum: 'many'"),
    ],
)
def test_a_device_is_judged_with_reason_and_field(document, model, reason, said):
    judgement = judged(document, model)
    assert judgement.reason == reason
    assert said in judgement.message
    assert judgement.accepted == (reason == "Accepted")


def test_a_device_names_what_it_depends_on():
    assert refs_of(json.dumps(lamp()).encode()) == ("edge-1", "lamp")
    assert refs_of(b"{") == ("", "")


def patched(document, judgement, now=NOW):
    patch = condition_patch("u-1", json.dumps(document).encode(), judgement, now)
    return json.loads(patch)["status"] if patch else None


def test_a_condition_that_says_it_already_is_not_written():
    document = lamp()
    document["metadata"]["generation"] = 4
    document["status"] = patched(document, judged(document))
    assert document["status"]["observedGeneration"] == 4
    assert patched(document, judged(document), "later") is None


def test_the_time_moves_only_when_the_status_flips_and_other_conditions_stay():
    document = lamp()
    other = {"type": "Online", "status": "True"}
    document["status"] = {"conditions": [other, *patched(document, judged(document))["conditions"]]}
    flipped = patched(document, judged(document, None), "later")["conditions"]
    assert [c["type"] for c in flipped] == ["Online", "Accepted"]
    assert flipped[1]["lastTransitionTime"] == "later"
    document["status"]["conditions"] = flipped
    still = patched(document, judged(document, nodes=()), "last")["conditions"][1]
    assert (still["reason"], still["lastTransitionTime"]) == ("NodeNotFound", "later")


def test_conditions_that_do_not_decode_are_replaced():
    document = lamp() | {"status": {"conditions": "broken"}}
    assert patched(document, judged(document))["conditions"][0]["type"] == "Accepted"
