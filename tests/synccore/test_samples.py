"""Blocks of readings: both twins, the same results and the same errors on any input."""

from __future__ import annotations

import math
from array import array
from functools import partial
from importlib import import_module
from operator import methodcaller
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synccore.errors import FrameError
from synccore.samples import BlockDecoder, BlockEncoder, newest, with_sequence
from synccore.series import (
    MAX_NAME_BYTES,
    MAX_READINGS,
    MAX_SERIES,
    MAX_TEXT_VALUE_BYTES,
    Readings,
    Series,
)

COMPILED = pytest.param("synccore._samples", id="compiled", marks=pytest.mark.compiled)
I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DECIMAL = st.builds(
    lambda number, places: round(number, places), st.floats(-1e6, 1e6), st.integers(0, 4)
)
FLOAT = st.one_of(
    DECIMAL, st.floats(), st.sampled_from([-0.0, 17179869.184, -17179869.183, 2.5e-4])
)
VALUE = st.one_of(FLOAT, I64, st.booleans(), TEXT)
NAMES = st.lists(st.builds(Series, TEXT, TEXT), max_size=8, unique=True)
SERIES_COUNT = 40


@pytest.fixture(
    scope="module", params=[COMPILED, pytest.param("synccore._samples_py", id="purepy")]
)
def twin(request):
    return import_module(request.param)


@st.composite
def columns(draw, value=VALUE):
    rows = draw(st.lists(st.tuples(st.integers(0, SERIES_COUNT - 1), I64, value), max_size=12))
    values = [row[2] for row in rows]
    floats = all(type(v) is float for v in values)
    return (
        array("I", [row[0] for row in rows]),
        array("q", [row[1] for row in rows]),
        array("d", values) if floats else values,
    )


def exact(columns):
    """Columns in a form that tells -0.0 from 0.0, True from 1, and one NaN from another."""
    series, times, values = columns
    spoken = [pack("<d", v) if type(v) is float else (type(v), v) for v in values]
    return series, times, type(values), spoken


@given(columns())
def test_readings_decode_to_what_was_encoded(twin, given_columns):
    encoded = twin.encode_readings(*given_columns, SERIES_COUNT)
    assert exact(twin.decode_readings(encoded, 0, SERIES_COUNT)) == exact(given_columns)


@given(NAMES)
def test_names_decode_to_what_was_encoded(twin, names):
    encoded = twin.encode_names(names)
    decoded = twin.decode_names(b"??" + encoded + b"!", 2, 2 + len(encoded))
    assert decoded == names
    assert all(type(name) is Series for name in decoded)


@given(columns())
def test_coalescing_keeps_the_newest_of_each_series(twin, given_columns):
    expected = {}
    for number, time_ms, value in zip(*given_columns, strict=True):
        if number not in expected or time_ms >= expected[number][0]:
            expected[number] = time_ms, value
    series, times, values = twin.coalesce_readings(*given_columns, SERIES_COUNT)
    assert list(series) == sorted(expected)
    found = zip(times, values, strict=True)
    assert [(t, repr(v)) for t, v in found] == [
        (expected[n][0], repr(expected[n][1])) for n in series
    ]


@pytest.mark.parametrize(
    ("value", "value_bytes"),
    [
        (True, 0),
        (0.0, 1),
        (-0.0, 1),
        (21.5, 2),
        (21.37, 2),
        (1e300 / 3, 8),
        (math.inf, 2),
        (-1, 1),
        ("on", 3),
    ],
)
def test_a_value_takes_the_bytes_that_it_needs(twin, value, value_bytes):
    readings = twin.encode_readings(array("I", [0]), array("q", [0]), [value], 1)
    assert len(readings) == 3 + value_bytes  # their number, series and type, time


def test_a_thousand_values_of_a_thousand_series_stay_below_fourteen_bytes_each(twin):
    names = [Series(f"default/pump-{n // 10:04}", f"property-{n % 10}") for n in range(1000)]
    values = array("d", [math.sqrt(n + 2) for n in range(1000)])
    size = len(twin.encode_names(names)) + len(
        twin.encode_readings(
            array("I", range(1000)), array("q", [1_700_000_000_000] * 1000), values, 1000
        )
    )
    assert size / 1000 < 13


@pytest.mark.parametrize(
    ("readings", "reason", "offset"),
    [
        pytest.param(b"", "block is cut", 0, id="empty"),
        pytest.param(b"\x02\x01\x00", "too many readings", 0, id="lying-count"),
        pytest.param(b"\xff\xff\xff\x7f" + b"\0" * 9, "too many readings", 0, id="huge-count"),
        pytest.param(b"\x01\x01", "too many readings", 0, id="cut-before-time"),
        pytest.param(b"\x01\x80\x80", "block is cut", 1, id="cut-in-head"),
        pytest.param(b"\x01\x11\x00", "series is not in the block", 1, id="series-below-zero"),
        pytest.param(b"\x01\x41\x00", "series is not in the block", 1, id="series-above"),
        pytest.param(b"\x01\x0f\x00abcdefg", "block is cut", 1, id="cut-float"),
        pytest.param(b"\x01\x03\x00\x05abcd", "block is cut", 1, id="cut-text"),
        pytest.param(b"\x01\x03\x00\xff\x7f", "text is too long", 1, id="lying-text"),
        pytest.param(b"\x01\x03\x00\x01\xff", "text is not UTF-8", 1, id="utf-8"),
        pytest.param(
            b"\x01\x02\x00" + b"\xff" * 9 + b"\x02", "number is too large", 1, id="overlong"
        ),
        pytest.param(b"\x00\x00", "bytes after the last reading", 1, id="more"),
    ],
)
def test_bad_readings_name_the_reason_and_the_place(twin, readings, reason, offset):
    with pytest.raises(FrameError) as caught:
        twin.decode_readings(b"??" + readings, 2, 2)
    assert (caught.value.reason, caught.value.offset) == (reason, offset + 2)


@pytest.mark.parametrize(
    ("names", "reason", "offset"),
    [
        pytest.param(b"\x02\x00\x00", "too many texts", 0, id="lying-count"),
        pytest.param(b"\x01\x01\x00\x00", "shared prefix is too long", 1, id="prefix"),
        pytest.param(b"\x01\x00\x81\x04", "text is too long", 1, id="long-text"),
        pytest.param(b"\x01\x00\x05abc", "block is cut", 1, id="cut-text"),
        pytest.param(b"\x01\x00\x01a\x09\x00\x00", "too many series", 4, id="lying-series"),
        pytest.param(b"\x01\x00\x01a\x01\x00\x02", "text is not in the block", 5, id="property"),
        pytest.param(b"\x01\x00\x01a\x01\x01\x00", "text is not in the block", 5, id="device"),
        pytest.param(b"\x01\x00\x01a\x01\x00\x00\x00", "bytes after the last series", 7, id="more"),
    ],
)
def test_bad_names_name_the_reason_and_the_place(twin, names, reason, offset):
    with pytest.raises(FrameError) as caught:
        twin.decode_names(names, 0, len(names))
    assert (caught.value.reason, caught.value.offset) == (reason, offset)


def test_prefixes_that_expand_beyond_the_limit_are_refused(twin):
    first = b"\x00\x80\x04" + b"x" * MAX_NAME_BYTES
    same = b"\x80\x04\x00" * 5000
    with pytest.raises(FrameError, match="names are too long"):
        twin.decode_names(b"\x89\x27" + first + same, 0, 2 + len(first) + len(same))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0, 2**63], "number is not signed 64 bits"),
        ([1.0, "x" * (MAX_TEXT_VALUE_BYTES + 1)], "text is too long"),
        ([1.0, "\ud800"], "text is not UTF-8"),
        ([1.0, None], "value is of no known type"),
        ([1.0, b"x"], "value is of no known type"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named_by_its_place(twin, values, reason):
    with pytest.raises(FrameError) as caught:
        twin.encode_readings(array("I", [0, 0]), array("q", [0, 0]), values, 1)
    assert (caught.value.reason, caught.value.offset) == (reason, 1)


def test_columns_beyond_the_limits_are_refused(twin):
    one, two = array("I", [0]), array("I", [0, 7])
    many = MAX_READINGS + 1
    for call in (
        lambda: twin.encode_readings(two, array("q", [0]), [1.0, 2.0], 8),
        lambda: twin.encode_readings(two, array("q", [0, 0]), array("d", [1.0, 2.0]), 7),
        lambda: twin.encode_readings(one, array("q", [0]), [1.0], MAX_SERIES + 1),
        lambda: twin.encode_readings(array("I", [0]) * many, array("q", [0]) * many, [1] * many, 1),
        lambda: twin.coalesce_readings(two, array("q", [0, 0]), [1.0, 2.0], 7),
        lambda: twin.compact_series(two, 7),
        lambda: twin.encode_names([Series("a", "b")] * (MAX_SERIES + 1)),
        lambda: twin.encode_names([Series("a", "b" * (MAX_NAME_BYTES + 1))]),
    ):
        with pytest.raises(FrameError):
            call()


@given(st.lists(st.integers(0, SERIES_COUNT - 1), max_size=12))
def test_compacted_series_point_to_the_same_numbers(twin, numbers):
    used, local = twin.compact_series(array("I", numbers), SERIES_COUNT)
    assert list(used) == sorted(set(numbers))
    assert [used[place] for place in local] == numbers


@pytest.mark.compiled
@given(st.binary(max_size=64), st.integers(0, 3))
@example(b"\x01\x0f\x00abcdefgh", 1)
def test_twins_agree_on_any_bytes(block, start):
    assert outcomes("synccore._samples", block, start) == outcomes(
        "synccore._samples_py", block, start
    )


@pytest.mark.compiled
@given(columns(), NAMES, st.integers(0), st.integers(0, 255))
def test_twins_agree_on_readings_and_names_with_one_byte_changed(
    given_columns, names, place, value
):
    twin = import_module("synccore._samples_py")
    for encoded in (twin.encode_readings(*given_columns, SERIES_COUNT), twin.encode_names(names)):
        changed = bytearray(encoded)
        changed[place % len(changed)] = value
        block = bytes(changed)
        assert outcomes("synccore._samples", block) == outcomes("synccore._samples_py", block)


@pytest.mark.compiled
@given(columns(), NAMES)
def test_twins_encode_to_equal_bytes(given_columns, names):
    one, other = import_module("synccore._samples"), import_module("synccore._samples_py")
    for count in (SERIES_COUNT, 5):
        for name in ("check_readings", "encode_readings", "coalesce_readings"):
            call = methodcaller(name, *given_columns, count)
            assert outcome(partial(spoken, call, one)) == outcome(partial(spoken, call, other))
    assert one.encode_names(names) == other.encode_names(names)


@given(columns(), st.integers(1, 2**64 - 1))
def test_a_block_explains_itself(given_columns, sequence):
    names = [Series(f"default/pump-{n}", "pressure") for n in range(SERIES_COUNT)]
    encoder, decoder = BlockEncoder(names), BlockDecoder()
    block = encoder.encode(*given_columns)
    assert encoder.encode(*given_columns) == block
    assert decoder.decode(block).sequence == 0
    decoded = decoder.decode(with_sequence(block, sequence))
    assert decoded.sequence == sequence
    found = decoded.readings
    assert [found.names[n] for n in found.series] == [names[n] for n in given_columns[0]]
    assert exact((given_columns[0], found.times, found.values)) == exact(given_columns)


@given(st.binary(max_size=40))
@example(b"\x02" + b"\0" * 8 + b"\xff" * 4)
def test_a_block_of_any_bytes_decodes_or_raises_frame_error(tail):
    for block in (tail, b"\x02" + tail, b"\x02" + b"\0" * 8 + b"\x02\0\0\0" + tail):
        outcome(partial(BlockDecoder().decode, block))


def test_the_newest_of_a_block_is_by_name():
    names = [Series("default/pump", "pressure"), Series("default/pump", "on")]
    readings = Readings(names, array("I", [0, 1, 0]), array("q", [5, 5, 4]), [1.5, True, 2.5])
    assert newest(readings) == {names[0]: (5, 1.5), names[1]: (5, True)}


def outcomes(module, block, start=0):
    twin = import_module(module)
    start = min(start, len(block))
    readings = outcome(lambda: exact(twin.decode_readings(block, start, SERIES_COUNT)))
    return readings, outcome(lambda: twin.decode_names(block, start, len(block)))


def spoken(call, twin):
    result = call(twin)
    return exact(result) if isinstance(result, tuple) else result


def outcome(call):
    try:
        return call()
    except FrameError as exc:
        return exc.reason, exc.offset
