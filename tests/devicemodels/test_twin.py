"""The twin machine: desired, observed desired and reported, merged without I/O."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    REFRESH_MS,
    Reading,
    Twin,
    decode_twin,
    encode_twin,
    merge_readings,
    merge_state,
    status_twins,
    take_desired,
    unsynced,
)
from devicemodels.values import DeviceModelError

MODEL = DeviceModel(
    metadata=Metadata(name="lamp"),
    spec=ModelSpec(
        properties=(
            ModelProperty(name="level", type="INT", maximum="100"),
            ModelProperty(name="ratio", type="DOUBLE"),
            ModelProperty(name="heat", type="DOUBLE", access_mode="ReadOnly"),
        )
    ),
)
EMPTY = Twin("u-1")


def device(**desired):
    properties = tuple(
        DeviceProperty(name=name, desired=TwinValue(value=value)) for name, value in desired.items()
    )
    return Device(
        metadata=Metadata(name="d", namespace="n"), spec=DeviceSpec(properties=properties)
    )


def take(twin, now_ms=1, **desired):
    return take_desired(twin, device(**desired), MODEL, now_ms)


def report(twin, now_ms=2, **values):
    readings = {name: Reading(reported=value) for name, value in values.items()}
    return merge_readings(twin, "n/d", MODEL, readings, now_ms)


def test_a_desired_value_is_unsynced_until_it_is_reported():
    twin = take(EMPTY, level="5").twin
    assert unsynced(twin, MODEL) == {"level": "5"}
    assert unsynced(report(twin, level="4").twin, MODEL) == {"level": "5"}
    assert unsynced(report(twin, level="5").twin, MODEL) == {}


def test_a_number_written_otherwise_is_in_sync():
    twin = take(EMPTY, ratio="1.50").twin
    assert unsynced(report(twin, ratio="1.5").twin, MODEL) == {}


def test_taking_the_same_again_changes_nothing():
    twin = take(EMPTY, level="5").twin
    again = take(twin, now_ms=99, level="5")
    assert (again.twin, again.touched, again.differs(twin)) == (twin, {}, False)


def test_a_desired_value_that_is_withdrawn_is_no_longer_expected():
    twin = take(take(EMPTY, level="5").twin).twin
    assert (twin.properties["level"].desired, unsynced(twin, MODEL)) == (None, {})


def test_a_forbidden_desired_value_is_refused_alone():
    merged = take(EMPTY, level="101", heat="3", ratio="1")
    assert unsynced(merged.twin, MODEL) == {"ratio": "1"}
    assert [exc.property for exc in merged.refused] == ["level", "heat"]


def test_a_property_that_left_the_model_leaves_the_twin():
    twin = take(EMPTY, level="5", ratio="1").twin
    smaller = DeviceModel(spec=ModelSpec(properties=MODEL.spec.properties[:1]))
    merged = take_desired(twin, device(level="5"), smaller, 3)
    assert list(merged.twin.properties) == ["level"]
    assert merged.touched["ratio"].current is None


def test_one_bad_reading_refuses_the_whole_request():
    with pytest.raises(DeviceModelError, match="'level'"):
        report(EMPTY, ratio="1", level="101")


def test_an_unknown_property_is_refused_by_name():
    with pytest.raises(DeviceModelError, match="'hue': is not in its model lamp"):
        report(EMPTY, hue="1")


def test_a_local_wish_is_in_force_until_the_cloud_changes_its_own():
    twin = take(EMPTY, level="5").twin
    wish = {"level": Reading(observed_desired="7")}
    twin = merge_readings(twin, "n/d", MODEL, wish, 2).twin
    assert unsynced(take(twin, level="5").twin, MODEL) == {"level": "7"}
    assert unsynced(take(twin, level="6").twin, MODEL) == {"level": "6"}


def test_an_unchanged_value_moves_its_time_only_now_and_then():
    twin = report(EMPTY, now_ms=10, level="5").twin
    assert report(twin, now_ms=9 + REFRESH_MS, level="5").twin == twin
    later = report(twin, now_ms=10 + REFRESH_MS, level="5").twin
    assert later.properties["level"].reported.time_ms == 10 + REFRESH_MS


def test_a_clock_set_back_does_not_freeze_a_value():
    twin = report(EMPTY, now_ms=10**12, level="5").twin
    assert report(twin, now_ms=1, level="5").twin.properties["level"].reported.time_ms == 1


def test_a_state_is_one_of_five_words_in_any_case():
    twin = merge_state(EMPTY, "OnLine", 77)
    assert (twin.state, twin.online_ms) == ("online", 77)
    assert merge_state(twin, "offline", 99).online_ms == 77
    assert merge_state(twin, "tired", 99) is None


def test_the_status_lists_what_is_known_in_the_models_order():
    twin = report(take(EMPTY, ratio="1").twin, heat="3", level="1").twin
    listed = status_twins(twin, MODEL)
    assert [t.property_name for t in listed] == ["level", "ratio", "heat"]
    assert listed[0].reported.metadata == {"timestamp": "2", "type": "int"}
    assert (listed[1].observed_desired.value, listed[1].reported) == ("1", None)


STEP = st.tuples(
    st.sampled_from(["take", "report", "wish"]),
    st.sampled_from(["level", "ratio"]),
    st.integers(0, 3),
)


@given(st.lists(STEP, max_size=20))
def test_whatever_happened_reporting_the_delta_brings_it_in_sync(steps):
    twin = EMPTY
    for now_ms, (what, name, value) in enumerate(steps):
        if what == "take":
            twin = take(twin, now_ms, **{name: str(value)}).twin
        else:
            reading = Reading(str(value)) if what == "report" else Reading(None, str(value))
            twin = merge_readings(twin, "n/d", MODEL, {name: reading}, now_ms).twin
        assert decode_twin(encode_twin(twin)) == twin
    synced = report(twin, 99, **unsynced(twin, MODEL)).twin
    assert unsynced(synced, MODEL) == {}
