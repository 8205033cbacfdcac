"""What `kubectl edge` prints of devices, from the objects as kubectl gives them."""

import json

import pytest

from armadillo.devicetext import Outcome, device_rows, outcomes, spoken_age, table, twin_rows
from armadillo.edge_devices import spec_patch
from armadillo.kubectl import documents

NOW_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z
LAMP = {
    "metadata": {"namespace": "default", "name": "lamp-01", "generation": 4},
    "spec": {
        "nodeName": "edge-1",
        "properties": [
            {"name": "power", "desired": {"value": "true"}},
            {"name": "level", "desired": {"value": "900", "metadata": {"who": "me"}}},
            {"name": "new", "desired": {"value": "1"}},
        ],
    },
    "status": {
        "state": "online",
        "lastOnlineTime": "2025-12-31T23:59:30Z",
        "twinsGeneration": 4,
        "twins": [
            {
                "propertyName": "power",
                "phase": "Applied",
                "reported": {"value": "true", "metadata": {"timestamp": "1767225540000"}},
            },
            {
                "propertyName": "level",
                "phase": "Rejected",
                "reason": "InvalidValue",
                "message": "too much",
                "since": "2025-12-31T23:55:00Z",
                "observedDesired": {"value": "5"},
            },
        ],
    },
}


def test_a_twin_is_a_row_for_each_property_with_what_became_of_it():
    rows = twin_rows(LAMP, (), NOW_S)
    assert rows[1] == ("power", "true", "true", "60s", "Applied", "")
    assert rows[2] == ("level", "900", "", "", "Rejected", "InvalidValue: too much")
    assert rows[3] == ("new", "1", "", "", "", "")


def test_a_device_is_a_row_with_what_it_has_not_taken_and_since_when():
    assert device_rows([LAMP], NOW_S)[1] == (
        "default",
        "lamp-01",
        "edge-1",
        "online",
        "30s",
        "5m",
        "level",
    )


def test_a_device_that_the_stream_has_seen_later_than_its_status_says_was_seen_then():
    for ago_s, shown in ((3, "3s"), (40, "30s")):
        seen_ms = {"default/lamp-01": int((NOW_S - ago_s) * 1000), "default/x": 1}
        assert device_rows([LAMP], NOW_S, seen_ms)[1][4] == shown
    assert device_rows([{"metadata": {"name": "x"}}], NOW_S, {"/x": 0})[1][4] != "never"


def test_a_device_that_was_never_heard_says_so():
    bare = {"metadata": {"name": "x"}}
    assert device_rows([bare], NOW_S)[1] == ("", "x", "-", "unknown", "never", "0s", "-")


def test_a_device_whose_node_is_lost_is_not_called_online():
    condition = {"type": "Online", "status": "Unknown", "reason": "NodeUnreachable"}
    lost = {**LAMP, "status": {**LAMP["status"], "conditions": [condition]}}
    assert device_rows([lost], NOW_S)[1][3] == "node lost"


@pytest.mark.parametrize(
    ("generation", "wanted"),
    [
        (4, [Outcome("power", "Applied"), Outcome("level", "Rejected", "InvalidValue: too much")]),
        (5, [Outcome(n, "", "the node has not taken it yet") for n in ("power", "level")]),
    ],
)
def test_an_outcome_counts_only_for_the_generation_it_answers(generation, wanted):
    assert outcomes(LAMP, ("power", "level"), generation) == wanted


def test_a_device_that_the_cloud_does_not_accept_is_an_outcome():
    refused = {
        "type": "Accepted",
        "status": "False",
        "reason": "NodeNotFound",
        "message": "no node",
        "observedGeneration": 5,
    }
    device = {**LAMP, "status": {**LAMP["status"], "conditions": [refused]}}
    assert outcomes(device, ("power",), 5) == [
        Outcome("power", "Rejected", "NodeNotFound: no node")
    ]


def test_a_write_keeps_what_else_is_said_and_tests_that_the_property_is_where_it_was():
    patch = spec_patch(LAMP, {"level": "7", "hue": "1"}, 9)
    assert patch == [
        {"op": "test", "path": "/spec/properties/1/name", "value": "level"},
        {
            "op": "add",
            "path": "/spec/properties/1/desired",
            "value": {"value": "7", "metadata": {"who": "me", "timestamp": "9"}},
        },
        {
            "op": "add",
            "path": "/spec/properties/-",
            "value": {"name": "hue", "desired": {"value": "1", "metadata": {"timestamp": "9"}}},
        },
    ]


def test_a_watch_is_read_object_by_object():
    lines = "".join(json.dumps(o, indent=4) + "\n" for o in ({"a": {"b": 1}}, {"c": [{}]}))
    assert list(documents(iter(lines.splitlines(keepends=True)))) == [{"a": {"b": 1}}, {"c": [{}]}]


@pytest.mark.parametrize(
    ("age_s", "said"),
    [(-3, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172800, "2d")],
)
def test_ages_are_said_in_one_unit(age_s, said):
    assert spoken_age(age_s) == said


def test_a_table_has_columns():
    assert table([("A", "B"), ("long", "")]) == "A      B\nlong"
