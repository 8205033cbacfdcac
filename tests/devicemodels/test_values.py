"""Values: text in, typed and within range, or an error that names everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.objects import ModelProperty
from devicemodels.values import (
    MAX_VALUE_BYTES,
    AccessModeError,
    DeviceModelError,
    parse_desired,
    parse_value,
    same_value,
)

TYPES = ["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"]


def prop(kind, **rest):
    return ModelProperty(name="p", type=kind, **rest)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("INT", "-9223372036854775808", -(2**63)),
        ("INT", "+7", 7),
        ("FLOAT", "1.5", 1.5),
        ("DOUBLE", "-1.5e3", -1500.0),
        ("DOUBLE", ".5", 0.5),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "false", False),
        ("STRING", "", ""),
        ("STRING", 'spaces, {"json": 1}, 灯', 'spaces, {"json": 1}, 灯'),
        ("BYTES", "AAEC", b"\x00\x01\x02"),
    ],
)
def test_a_value_of_its_type_is_taken(kind, text, value):
    assert parse_value("d/x", prop(kind), text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("INT", "1.0"),
        ("INT", "9223372036854775808"),
        ("INT", "9" * 5000),
        ("INT", ""),
        ("INT", "1\n"),
        ("INT", "٣"),
        ("INT", "1_000"),
        ("FLOAT", "1e39"),
        ("DOUBLE", "nan"),
        ("DOUBLE", "1e999"),
        ("DOUBLE", "inf"),
        ("BOOLEAN", "True"),
        ("BOOLEAN", "1"),
        ("BYTES", "not base64!"),
        ("BYTES", "AAE"),
        ("STRING", "\ud800"),
        ("STREAM", "x"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(kind, text):
    with pytest.raises(DeviceModelError, match="device d/x: property 'p': value "):
        parse_value("d/x", prop(kind), text)


def test_an_error_names_device_property_value_and_limit():
    with pytest.raises(DeviceModelError) as caught:
        parse_value("default/lamp", prop("INT", maximum="100", unit="%"), "101")
    assert str(caught.value) == (
        "device default/lamp: property 'p': value '101' is more than the maximum of 100 %"
    )
    assert (caught.value.device, caught.value.property) == ("default/lamp", "p")


@pytest.mark.parametrize("kind", ["INT", "FLOAT", "DOUBLE"])
def test_limits_are_inclusive(kind):
    bounded = prop(kind, minimum="-1", maximum="1")
    for text in ("-1", "0", "1"):
        parse_value("d/x", bounded, text)
    for text in ("-2", "2"):
        with pytest.raises(DeviceModelError):
            parse_value("d/x", bounded, text)


def test_a_limit_on_text_limits_nothing():
    assert parse_value("d/x", prop("STRING", maximum="3"), "9") == "9"


def test_a_limit_that_is_no_number_limits_nothing():
    assert parse_value("d/x", prop("INT", maximum="many"), "9") == 9


def test_a_value_too_large_is_refused_with_the_limit():
    with pytest.raises(DeviceModelError, match=f"more than the limit of {MAX_VALUE_BYTES}"):
        parse_value("d/x", prop("STRING"), "x" * (MAX_VALUE_BYTES + 1))


def test_a_read_only_property_cannot_be_desired():
    with pytest.raises(AccessModeError, match="ReadOnly"):
        parse_desired("d/x", prop("INT", access_mode="ReadOnly"), "1")


def test_numbers_are_compared_as_numbers_and_text_as_text():
    assert same_value(prop("DOUBLE"), "1.0", "1")
    assert same_value(prop("INT"), "+1", "1")
    assert not same_value(prop("STRING"), "1.0", "1")
    assert not same_value(prop("INT"), "x", "1")


@given(st.sampled_from(TYPES), st.text())
def test_any_text_is_a_value_or_a_clear_error(kind, text):
    try:
        parse_value("d/x", prop(kind, minimum="0", maximum="10"), text)
    except DeviceModelError as exc:
        assert len(str(exc)) < 300  # noqa: PT017  (no error is as good)
