"""Topics of devices and of the node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.eventbus import topics
from edgecore.eventbus.topics import Asked, Request


@pytest.mark.parametrize(
    ("topic", "request_"),
    [
        ("$hw/events/device/ns/d/twin/update", Request(Asked.TWIN_UPDATE, "ns/d")),
        ("$hw/events/device/ns/d/twin/get", Request(Asked.TWIN_GET, "ns/d")),
        ("$hw/events/device/ns/d/state/update", Request(Asked.STATE_UPDATE, "ns/d")),
        ("$hw/events/node/edge-1/membership/get", Request(Asked.MEMBERSHIP_GET, "edge-1")),
    ],
)
def test_a_request_is_recognized_and_answered_beside_it(topic, request_):
    assert topics.parse(topic) == request_
    assert topics.result(request_) == f"{topic}/result"


@pytest.mark.parametrize(
    "topic",
    [
        "$hw/events/device/ns/d/twin/update/result",
        "$hw/events/device/ns/d/twin/update/delta",
        "$hw/events/device/d/twin/update",
        "$hw/events/node/edge-1/membership/get/result",
        "$hw/events/node/edge-1/membership/updated",
        "default/user/x",
        "",
    ],
)
def test_what_is_no_request_is_none(topic):
    assert topics.parse(topic) is None


@given(st.text())
def test_any_topic_is_a_request_or_none(text):
    for topic in (text, f"$hw/events/device/{text}", f"$hw/events/node/{text}"):
        request = topics.parse(topic)
        if request is not None and request.asked is Asked.CLOUD_UPDATED:
            assert (
                topics.result(request)
                == f"{topics.device_prefix(request.target)}twin/update/result"
            )
        else:
            assert request is None or topics.result(request) == f"{topic}/result"
