"""What becomes of a desired value: every phase, its reason, and the conflict rule of two sides that changed."""

import pytest

from devicemodels.objects import (
    Device,
    DeviceModel,
    DeviceProperty,
    DeviceSpec,
    Metadata,
    ModelProperty,
    ModelSpec,
    TwinValue,
)
from devicemodels.twin import (
    Reading,
    Twin,
    come_back,
    expire_writes,
    merge_readings,
    settle,
    status_twins,
    take_desired,
    unsynced,
)

MODEL = DeviceModel(
    metadata=Metadata(name="lamp"),
    spec=ModelSpec(
        properties=(
            ModelProperty(name="level", type="INT", maximum="100"),
            ModelProperty(name="heat", type="DOUBLE", access_mode="ReadOnly"),
        )
    ),
)


class Machine:
    """One device and its twin; time is what the test says it is."""

    def __init__(self, conflict="Cloud", timeout_s=0):
        self.twin, self.now_ms, self.conflict, self.timeout_s = (
            Twin("u"),
            1_000,
            conflict,
            timeout_s,
        )
        self.device = self._device({})

    def _device(self, desired):
        properties = tuple(
            DeviceProperty(
                name=name,
                desired=TwinValue(value=value, metadata=metadata),
                conflict=self.conflict,
                write_timeout_seconds=self.timeout_s,
            )
            for name, (value, metadata) in desired.items()
        )
        meta = Metadata(name="d", namespace="n", generation=self.now_ms)
        return Device(metadata=meta, spec=DeviceSpec(properties=properties))

    def pass_s(self, seconds):
        self.now_ms += int(seconds * 1000)
        self.twin = expire_writes(self.twin, self.device, self.now_ms)
        return self

    def desire(self, value, prop="level", asked_ms=None):
        self.now_ms += 1
        metadata = {} if asked_ms is None else {"timestamp": str(asked_ms)}
        self.device = self._device({prop: (value, metadata)})
        self.twin = take_desired(self.twin, self.device, MODEL, self.now_ms).twin
        return self

    def say(self, value=None, *, refused=None, wish=None, linked=True):
        self.now_ms += 1
        readings = {"level": Reading(value, wish, refused)}
        self.twin = merge_readings(
            self.twin, "n/d", MODEL, readings, self.now_ms, device=self.device, linked=linked
        ).twin
        return self

    @property
    def phase(self):
        held = self.twin.properties["level"]
        return held.phase, held.reason

    @property
    def told(self):
        return unsynced(self.twin, MODEL, self.device).get("level")


def test_a_write_is_pending_until_the_device_says_so():
    machine = Machine().desire("5")
    assert (machine.phase, machine.told) == (("Pending", ""), "5")
    assert machine.say("4").phase == ("Pending", "")
    assert machine.say("5").phase == ("Applied", "")
    assert machine.told is None


def test_a_write_that_the_model_forbids_is_rejected_with_the_limit_and_the_old_one_stays():
    machine = Machine().desire("5").say("5").desire("101")
    (twin,) = status_twins(machine.twin, MODEL)
    assert (twin.phase, twin.reason) == ("Rejected", "InvalidValue")
    assert "'101' is more than the maximum of 100" in twin.message
    assert twin.observed_desired.value == "5"
    assert machine.desire("6").phase == ("Pending", "")


def test_a_write_to_what_can_only_be_read_is_rejected():
    machine = Machine().desire("5", prop="heat")
    (twin,) = status_twins(machine.twin, MODEL)
    assert (twin.property_name, twin.phase, twin.reason) == ("heat", "Rejected", "ReadOnly")


def test_a_device_that_refuses_is_not_asked_again_until_somebody_asks_again():
    machine = Machine().desire("5", asked_ms=1).say(refused="bulb is broken")
    assert machine.phase == ("Rejected", "DeviceRefused")
    assert machine.told is None
    assert machine.desire("5", asked_ms=1).told is None
    assert machine.desire("5", asked_ms=2).told == "5"
    assert machine.phase == ("Pending", "")


@pytest.mark.parametrize(
    ("timeout_s", "wait_s", "phase"),
    [(0, 29, "Pending"), (0, 30, "Expired"), (2, 1.9, "Pending"), (2, 2, "Expired")],
)
def test_a_write_expires_when_its_time_is_up(timeout_s, wait_s, phase):
    machine = Machine(timeout_s=timeout_s).desire("5").pass_s(wait_s)
    assert machine.phase[0] == phase


def test_an_expired_write_is_still_taken_when_the_device_comes_back():
    machine = Machine().desire("5").pass_s(30)
    assert (machine.phase, machine.told) == (("Expired", "NoAnswer"), "5")
    machine.twin = come_back(machine.twin, machine.now_ms)
    assert machine.say("5").phase == ("Applied", "")


@pytest.mark.parametrize(("rule", "told"), [("Cloud", "5"), ("Edge", None), ("Newest", None)])
def test_a_hand_on_the_switch_is_drift_and_the_rule_says_what_comes_of_it(rule, told):
    machine = Machine(rule).desire("5").say("5").say("9")
    assert machine.phase == ("Drifted", "ChangedAtDevice")
    assert machine.told == told
    assert machine.say("5").phase == ("Applied", "")


@pytest.mark.parametrize(
    ("rule", "asked_ms", "phase"),
    [
        ("Cloud", None, ("Pending", "")),
        ("Edge", None, ("Rejected", "LocalChangeWins")),
        ("Newest", 10, ("Rejected", "LocalChangeIsNewer")),
        ("Newest", 10_000, ("Pending", "")),
        ("Newest", None, ("Pending", "")),
    ],
)
@pytest.mark.parametrize("how", ["hand", "program"])
def test_when_both_sides_changed_offline_the_rule_decides(rule, asked_ms, phase, how):
    machine = Machine(rule).desire("5").say("5")
    machine.say("9", linked=False) if how == "hand" else machine.say(wish="9", linked=False)
    assert machine.desire("7", asked_ms=asked_ms).phase == phase
    assert machine.told == ("7" if phase[0] == "Pending" else None)


def test_a_change_that_the_cloud_has_seen_is_no_conflict():
    machine = Machine("Edge").desire("5").say("5").say("9", linked=False)
    machine.twin = settle(machine.twin)
    assert machine.desire("7").phase == ("Pending", "")


def test_a_value_that_is_no_longer_desired_has_no_phase():
    machine = Machine().desire("5").say("5")
    machine.device = machine._device({})
    machine.twin = take_desired(machine.twin, machine.device, MODEL, machine.now_ms).twin
    assert machine.phase == ("", "")


def test_a_twin_tells_which_generation_it_answers():
    machine = Machine().desire("5")
    assert machine.twin.generation == machine.device.metadata.generation
