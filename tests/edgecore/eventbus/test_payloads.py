"""Payloads: strict in, KubeEdge's names out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.objects import DeviceModel, ModelProperty, ModelSpec
from devicemodels.twin import Change, PropertyTwin, Reading, Stamped
from edgecore.eventbus import payloads
from edgecore.eventbus.payloads import MAX_PAYLOAD_BYTES, Member, PayloadError

MODEL = DeviceModel(spec=ModelSpec(properties=(ModelProperty(name="p", type="INT"),)))
HELD = PropertyTwin(
    observed_desired=Stamped("2", 20),
    reported=Stamped("1", 10),
    desired_count=3,
    local_count=1,
    reported_count=7,
)
TWIN = {
    "expected": {"value": "2", "metadata": {"timestamp": 20}},
    "actual": {"value": "1", "metadata": {"timestamp": 10}},
    "optional": True,
    "metadata": {"type": "int"},
}


def test_an_update_is_read_with_everything_kubeedge_clients_send():
    full = TWIN | {"expected_version": {"cloud": 1, "edge": 2}, "actual_version": {}}
    body = {"event_id": "e", "timestamp": 5, "twin": {"p": full}}
    update = payloads.decode_update(json.dumps(body).encode())
    assert update == ("e", {"p": Reading(reported="1", observed_desired="2")})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"event_id":"e"}', "`twin` is missing"),
    ],
)
def test_a_refusal_names_the_event_it_answers(body, reason):
    with pytest.raises(PayloadError, match=reason) as caught:
        payloads.decode_update(body)
    assert (caught.value.event_id, caught.value.code) == ("e", 400)


def test_a_payload_too_large_names_size_and_limit():
    with pytest.raises(PayloadError, match=f"{MAX_PAYLOAD_BYTES + 1} bytes .* {MAX_PAYLOAD_BYTES}"):
        payloads.decode_get(b" " * (MAX_PAYLOAD_BYTES + 1))


@pytest.mark.timeout(60)
@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(
        lambda tree: json.dumps({"twin": tree, "state": tree}).encode()
    )
)
def test_any_bytes_are_a_request_or_a_400(payload):
    for decode in (payloads.decode_update, payloads.decode_state, payloads.decode_get):
        try:
            decode(payload)
        except PayloadError as exc:
            body = json.loads(payloads.encode_error(exc, 1))
            assert set(body) == {"event_id", "timestamp", "code", "reason"}
            assert body["code"] == 400


def test_results_leave_versions_out_and_documents_have_them():
    result = json.loads(payloads.encode_twins("e", 9, {"p": HELD}, MODEL))
    assert result == {"event_id": "e", "timestamp": 9, "twin": {"p": TWIN}}
    document = json.loads(payloads.encode_document("e", 9, {"p": Change(None, HELD)}, MODEL))
    assert document["twin"]["p"]["last"] is None
    assert document["twin"]["p"]["current"] == TWIN | {
        "expected_version": {"cloud": 3, "edge": 1},
        "actual_version": {"cloud": 0, "edge": 7},
    }


def test_a_delta_holds_what_differs_beside_all_that_is_expected():
    twins = {"p": HELD, "q": PropertyTwin(reported=Stamped("1", 1))}
    delta = json.loads(payloads.encode_delta("e", 9, twins, MODEL, {"p": "2"}))
    assert (delta["delta"], list(delta["twin"])) == ({"p": "2"}, ["p"])


def test_membership_has_null_for_an_empty_side():
    member = Member("n/d", "d", "a lamp")
    body = json.loads(payloads.encode_membership(9, [member], []))
    assert body["added_devices"][0]["id"] == "n/d"
    assert body["removed_devices"] is None


def test_a_state_result_has_kubeedges_names():
    body = json.loads(payloads.encode_state("e", 9, "d", "online", "2026-01-01T00:00:00Z"))
    assert body["device"] == {
        "name": "d",
        "state": "online",
        "lastOnlineTime": "2026-01-01T00:00:00Z",
    }
