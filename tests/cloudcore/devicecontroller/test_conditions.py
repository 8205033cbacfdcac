"""Online and Synced: each reason, from what a Device's status and its spec say."""

import pytest

from cloudcore.devicecontroller.conditions import Asked, Seen, merge, online, synced
from devicemodels.objects import Condition, StatusTwin, TwinValue

ASKED = Asked(2, "edge-1", {"power": "true"})
APPLIED = Condition("Synced", "True", "Applied")


def twin(name="power", phase="Applied", taken="true", **more):
    return StatusTwin(name, observed_desired=TwinValue(value=taken), phase=phase, **more)


def seen(*twins, generation=2, **more):
    return Seen(twins=twins, twins_generation=generation, **more)


@pytest.mark.parametrize(
    ("state", "lost", "status", "reason", "said"),
    [
        ("online", False, "True", "Online", "the device is online"),
        ("ok", False, "True", "Ok", "the device is ok"),
        ("unhealthy", False, "True", "Unhealthy", "the device is unhealthy"),
        ("offline", False, "False", "Offline", "is offline; online last at 2026-01-01T00:00:00Z"),
        ("unknown", False, "Unknown", "Unknown", "is unknown; online last at"),
        ("", False, "Unknown", "NeverHeard", "was not heard yet"),
        ("online", True, "Unknown", "NodeUnreachable", "node edge-1 is unreachable; the device was online"),
        ("", True, "Unknown", "NodeUnreachable", "the device was not heard yet"),
    ],
)  # fmt: skip
def test_online_has_a_reason_for_every_state(state, lost, status, reason, said):
    said_so = online(
        Seen(state=state, last_online_time="2026-01-01T00:00:00Z"), node="edge-1", node_lost=lost
    )
    assert (said_so.type, said_so.status, said_so.reason) == ("Online", status, reason)
    assert said in said_so.message


@pytest.mark.parametrize(
    ("told", "lost", "status", "reason", "said"),
    [
        (seen(twin()), False, "True", "Applied", "desired values applied: 1"),
        (seen(twin(phase="Pending")), False, "False", "Pending", "power: Pending"),
        (seen(twin(phase="Rejected", reason="DeviceRefused", message="locked")), False, "False",
         "Rejected", "power: Rejected: DeviceRefused: locked"),
        (seen(twin(phase="Expired", reason="NoAnswer")), False, "False", "Expired", "NoAnswer"),
        (seen(twin(phase="Drifted")), False, "False", "Drifted", "power: Drifted"),
        (seen(twin(), twin("b", "Expired"), twin("c", "Pending")), False, "False", "Expired", "c: Pending"),
        (seen(generation=1), False, "False", "NotTaken", "not taken by node edge-1 yet: power"),
        (seen(twin(taken="false"), generation=1), False, "False", "NotTaken", "yet: power"),
        (seen(twin(), generation=1), False, "True", "Applied", "applied: 1"),
        (seen(twin()), True, "Unknown", "NodeUnreachable", "node edge-1 is unreachable"),
        (seen(twin(taken="false"), generation=1), True, "Unknown", "NodeUnreachable", "it has not taken: power"),
        (seen(conditions=(APPLIED,)), False, "True", "Applied", "desired values applied: 0"),
    ],
)  # fmt: skip
def test_synced_has_a_reason_for_every_outcome(told, lost, status, reason, said):
    condition = synced(told, ASKED, node_lost=lost)
    assert (condition.type, condition.status, condition.reason) == ("Synced", status, reason)
    assert said in condition.message


def test_a_device_of_which_nothing_is_desired_is_neither_synced_nor_not():
    assert synced(Seen(), ASKED._replace(desired={}), node_lost=True) is None


def test_many_properties_that_are_behind_are_counted_and_not_all_named():
    desired = {f"p{n}": "1" for n in range(9)}
    condition = synced(Seen(), ASKED._replace(desired=desired), node_lost=False)
    assert condition.message.endswith("p4 and 4 more")


def test_a_condition_keeps_its_time_until_its_status_flips():
    held = [Condition("Online", "True", "Online", last_transition_time="then")]
    same = merge(held, [Condition("Online", "True", "Ok")], 3, "now")
    assert [(c.reason, c.last_transition_time, c.observed_generation) for c in same] == [
        ("Ok", "then", 3)
    ]
    flipped = merge(held, [None, Condition("Online", "False", "Offline")], 3, "now")
    assert flipped[0].last_transition_time == "now"
