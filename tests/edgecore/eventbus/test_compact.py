"""The compact form: a table of values, read whole or refused with the place that is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.columns import check_column, text_of
from devicemodels.objects import ModelProperty
from devicemodels.values import DeviceModelError, parse_value
from edgecore.eventbus.compact import MAX_VALUES, decode_table
from edgecore.eventbus.payloads import PayloadError


def table(properties, rows, **more):
    return json.dumps({"properties": properties, "rows": rows, **more}).encode()


def test_a_table_is_columns_without_its_gaps():
    found = decode_table(table(["a", "b"], [[1, 2.5, None], [None, 3, True]], event_id="e"), 9)
    assert found == ("e", {"a": ([1, 9], [2.5, 3]), "b": ([9], [True])})


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"{", "bad request body"),
        (b"\xff", "bad request body"),
        (b"[]", "bad request body"),
        (b'{"rows":' + b"[" * 100_000, "bad request body"),
        (table(["a"], [[1]]), "rows[0]: 1 cells"),
        (table(["a", "a"], []), "a property is there twice"),
        (table(["a"], [["x", 1]]), "a time is not Unix milliseconds"),
        (table(["a"], [[True, 1]]), "a time is not Unix milliseconds"),
        (table(["a"], [[-1, 1]]), "a time is not Unix milliseconds"),
        (table(["a"], [[1, 1]] * (MAX_VALUES + 1)), "is more than the limit"),
    ],
)
def test_a_bad_table_is_refused_with_the_reason(payload, said):
    with pytest.raises(PayloadError) as caught:
        decode_table(payload, 1)
    assert caught.value.code == 400
    assert said.removeprefix("is ") in caught.value.reason


PROPERTIES = [
    ModelProperty(name="p", type="INT", minimum="-5", maximum="5"),
    ModelProperty(name="p", type="DOUBLE", minimum="-1.5", unit="V"),
    ModelProperty(name="p", type="FLOAT"),
    ModelProperty(name="p", type="BOOLEAN"),
    ModelProperty(name="p", type="STRING"),
    ModelProperty(name="p", type="BYTES"),
    ModelProperty(name="p", type="JSON"),
    ModelProperty(name="p", type="STREAM"),
]
NATIVE = {
    "INT": int,
    "DOUBLE": (int, float),
    "FLOAT": (int, float),
    "BOOLEAN": bool,
    "STRING": str,
    "BYTES": str,
    "JSON": object,
    "STREAM": str,
}
SCALARS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text()
)


def acceptable(prop, value):
    right = isinstance(value, NATIVE[prop.type])
    if prop.type != "BOOLEAN" and prop.type != "JSON" and isinstance(value, bool):
        right = False
    try:
        parse_value("n/d", prop, text_of(prop, value))
    except DeviceModelError:
        return False
    return right


@given(st.sampled_from(PROPERTIES), st.lists(SCALARS, min_size=1, max_size=4))
def test_a_column_passes_if_each_of_its_values_would(prop, values):
    wanted = all(acceptable(prop, value) for value in values)
    try:
        check_column("n/d", prop, values)
    except DeviceModelError:
        assert not wanted
    else:
        assert wanted


def test_a_wrong_value_in_a_column_is_named_with_the_limit():
    with pytest.raises(DeviceModelError) as caught:
        check_column("n/d", PROPERTIES[0], [1, 2, 9])
    assert str(caught.value) == "device n/d: property 'p': value '9' is more than the maximum of 5"
