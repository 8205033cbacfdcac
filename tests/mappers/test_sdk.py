"""The parts of the SDK that do no I/O."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.dmi import MappedProperty, pack_config, unpack_config
from devicemodels.objects import ModelProperty
from devicemodels.values import DeviceModelError
from mappers.sdk import PointFault
from mappers.sdk.jsonpath import pick, steps_of
from mappers.sdk.outbox import MAX_BATCH_BYTES, MAX_WAITING, BatchWriter, Outbox, Reading
from mappers.sdk.schedule import Schedule
from mappers.sdk.transforms import Transform, apply, from_words, to_words, undo, words_of
from mappers.sdk.values import reading_of, text_of


@given(st.integers(0, 255), st.sampled_from([0xFF, 0xF0, 0x3C]), st.integers(0, 0xFFFF))
def test_a_masked_value_comes_back_and_other_bits_stay(value, mask, current):
    transform = Transform(mask=mask)
    width = mask.bit_count()
    if value >= 1 << width:
        with pytest.raises(ValueError, match="does not fit the mask"):
            undo(transform, value, current)
        return
    raw = undo(transform, value, current)
    assert apply(transform, raw) == value
    assert raw & ~mask == current & ~mask


@given(st.floats(-1e6, 1e6), st.sampled_from([0.1, 0.5, 2.0, 10.0]), st.floats(-100, 100))
def test_scale_and_offset_undo_what_they_did(raw, scale, offset):
    transform = Transform(scale=scale, offset=offset)
    assert undo(transform, apply(transform, raw)) == pytest.approx(raw, abs=1e-4)


INTEGERS = {"int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}


@given(
    st.sampled_from(sorted(INTEGERS)),
    st.integers(-(1 << 64), 1 << 64),
    st.sampled_from(["big", "little"]),
    st.sampled_from(["big", "little"]),
)
def test_whole_numbers_survive_any_order_of_bytes_and_words_or_are_refused(kind, value, byte, word):
    bits = INTEGERS[kind]
    low, high = (0, 1 << bits) if kind[0] == "u" else (-(1 << bits - 1), 1 << bits - 1)
    if not low <= value < high:
        with pytest.raises(ValueError, match="does not fit"):
            to_words(value, kind, byte, word)
        return
    words = to_words(value, kind, byte, word)
    assert len(words) == words_of(kind)
    assert from_words(words, kind, byte, word) == value


def test_a_float_is_told_with_the_digits_it_has():
    words = list(struct.unpack(">2H", struct.pack(">f", 21.7)))
    assert from_words(words, "float32", "big", "big") == 21.7


@given(
    st.dictionaries(
        st.text(min_size=1), st.text() | st.booleans() | st.integers(-(1 << 62), 1 << 62)
    )
)
def test_configuration_survives_the_wire(config):
    assert unpack_config(pack_config(config).data) == config


def test_a_number_of_yaml_keeps_its_digits_on_the_wire():
    assert unpack_config(pack_config({"scale": 0.1, "nested": {"a": 1}}).data) == {
        "scale": 0.1,
        "nested": '{"a":1}',
    }


@pytest.mark.parametrize(
    ("path", "found"),
    [("a.b[1].c", 7), ("$.a.x", "t"), ("a.b[9]", None), ("a.b.c", None), ("a[0]", None)],
)
def test_a_path_picks_one_value_or_says_what_is_missing(path, found):
    value = pick(b'{"a": {"b": [0, {"c": 7}], "x": "t"}}', steps_of(path))
    assert isinstance(value, PointFault) if found is None else value == found


@given(st.text(max_size=20))
def test_any_path_is_understood_or_refused_with_its_place(path):
    problem = ""
    try:
        steps_of(path)
    except ValueError as exc:
        problem = str(exc)
    assert not problem or repr(path) in problem


@given(st.binary(max_size=64))
def test_any_payload_gives_a_value_or_a_fault(payload):
    assert pick(payload, steps_of("a[0]")) is not None


def test_properties_are_read_together_when_they_are_due_together():
    schedule = Schedule(
        [MappedProperty("a", collect_cycle_ms=100), MappedProperty("b", collect_cycle_ms=200)]
    )
    schedule.restart(10.0)
    assert schedule.due(10.0) == {"a", "b"}
    assert schedule.next_s() == pytest.approx(10.1)
    assert schedule.due(10.1) == {"a"}
    assert schedule.due(10.2) == {"a", "b"}
    assert schedule.due(20.0) == {"a", "b"}  # what was missed is not made up for
    assert schedule.next_s() == pytest.approx(20.1)
    schedule.soon("b")
    assert schedule.due(20.01) == {"b"}


def test_an_outbox_that_is_full_keeps_the_newest_of_each_property_and_counts_the_rest():
    outbox = Outbox()
    for number in range(MAX_WAITING + 1):
        outbox.read("d/1", f"p{number % 3}", str(number), number)
    assert outbox.reading_count == 3
    assert outbox.overtaken_count == MAX_WAITING - 2
    assert {text for _, _, _, text in outbox.take_readings()} == {
        str(MAX_WAITING - n) for n in range(3)
    }
    assert not outbox


def taken(outbox):
    while outbox.reading_count:
        yield outbox.take_readings()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.one_of(st.floats(allow_nan=False), st.text(max_size=3))
        ),
        max_size=40,
    )
)
def test_a_message_has_numbers_or_texts_and_each_property_keeps_its_order(rows):
    outbox = Outbox()
    for number, (prop, value) in enumerate(rows):
        outbox.read("d/1", prop, value, number)
    batches = list(taken(outbox))
    assert all(len({type(row.value) for row in batch}) == 1 for batch in batches)
    found = [(row.property, row.value) for batch in batches for row in batch]
    for prop in "abc":
        assert [f for f in found if f[0] == prop] == [r for r in rows if r[0] == prop]


def test_long_texts_are_told_in_messages_of_bounded_size():
    outbox = Outbox()
    for number in range(100):
        outbox.read("d/1", "p", "x" * 65_000, number)
    batches = list(taken(outbox))
    assert [row.time_ms for batch in batches for row in batch] == list(range(100))
    assert max(map(len, batches)) * 65_000 <= MAX_BATCH_BYTES


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("INT", 7, 7.0),
        ("INT", 7.0, 7.0),
        ("INT", (1 << 53) + 1, str((1 << 53) + 1)),  # a 64-bit float does not have it
        ("DOUBLE", 7, 7.0),
        ("DOUBLE", 0.1, 0.1),
        ("DOUBLE", 1e300, "1e+300"),
        ("FLOAT", -0.5, -0.5),
        ("BOOLEAN", True, "true"),
        ("STRING", 7, "7"),
        ("DOUBLE", "0.10", "0.10"),  # a text is told as the driver says it
    ],
)
def test_numbers_are_told_as_numbers_where_the_model_has_them(kind, value, told):
    prop = ModelProperty(name="p", type=kind)
    found = reading_of("d/1", prop, value)
    assert (type(found), found) == (type(told), told)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", 101), ("INT", -1), ("INT", 7.5), ("DOUBLE", 100.5), ("DOUBLE", float("nan")),
        ("DOUBLE", float("inf")), ("FLOAT", 1e39), ("INT", 1 << 80), ("INT", True),
    ],
)  # fmt: skip
def test_a_number_that_the_model_does_not_take_is_refused_as_its_text_is(kind, value):
    prop = ModelProperty(name="p", type=kind, minimum="0", maximum="100", unit="C")
    with pytest.raises(DeviceModelError) as by_number:
        reading_of("d/1", prop, value)
    with pytest.raises(DeviceModelError) as by_text:
        text_of("d/1", prop, value)
    assert str(by_number.value) == str(by_text.value)


def test_a_series_is_named_once_in_a_stream():
    writer = BatchWriter()
    first = writer.encode(
        [Reading("d", "a", 1, "x"), Reading("d", "b", 2, "y"), Reading("d", "a", 3, "z")]
    )
    second = writer.encode([Reading("d", "b", 4, 0.5), Reading("d", "c", 5, 1.5)])
    assert [(s.device, s.property) for s in first.named] == [("d", "a"), ("d", "b")]
    assert struct.unpack("<3I", first.series) == (0, 1, 0)
    assert (list(first.texts), first.numbers) == (["x", "y", "z"], b"")
    assert [s.property for s in second.named] == ["c"]
    assert struct.unpack("<2I", second.series) == (1, 2)
    assert (struct.unpack("<2d", second.numbers), list(second.texts)) == ((0.5, 1.5), [])
