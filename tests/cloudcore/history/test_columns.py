"""Splitting blocks by series, and the bytes that are stored."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudcore.history import columns
from cloudcore.history.columns import (
    MAX_STRETCH,
    Column,
    pack_column,
    pack_journal,
    split,
    unpack_column,
    unpack_journal,
)
from synccore.errors import FrameError
from synccore.series import Readings, Series

VALUES = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(max_size=20).filter(lambda t: t.isprintable()),
)
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(-(2**62), 2**62), VALUES), max_size=40)
NAMES = [
    Series("default/a", "x"),
    Series("default/a", "y"),
    Series("default/b", "x"),
    Series("c/d", "z"),
]


def block(rows):
    return Readings(
        NAMES,
        array("I", [row[0] for row in rows]),
        array("q", [row[1] for row in rows]),
        [row[2] for row in rows],
    )


def plain(column):
    return [(t, type(v), v) for t, v in zip(column.times, column.values, strict=True)]


@given(ROWS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_a_split_block_has_every_kept_value_of_each_series_in_order(rows, kept):
    found = split(block(rows), kept)
    for place, name in enumerate(NAMES):
        wanted = [(t, type(v), v) for p, t, v in rows if p == place] if kept[place] else []
        assert plain(found.get(name, Column())) == wanted


@given(st.lists(ROWS, max_size=6), st.integers(1, 60))
def test_joined_blocks_have_the_same_values_of_each_series_in_order(parts, most):
    apart, together = {}, {}
    before, columns.MAX_JOINED = columns.MAX_JOINED, most
    try:
        made = list(columns.joined(map(block, parts)))
    finally:
        columns.MAX_JOINED = before
    for held, blocks in ((apart, map(block, parts)), (together, made)):
        for one in blocks:
            for name, column in split(one, [True] * 4).items():
                held.setdefault(name, []).extend(plain(column))
    assert together == apart


@given(ROWS)
def test_what_is_packed_comes_back_ordered(rows):
    for column in split(block(rows), [True] * 4).values():
        ordered = column.ordered()
        assert plain(unpack_column(pack_column(ordered))) == sorted(
            plain(column), key=lambda r: r[0]
        )


@given(ROWS)
def test_the_journal_comes_back_as_it_was(rows):
    given_columns = split(block(rows), [True] * 4)
    found = {}
    for content in pack_journal(given_columns.items()):
        found |= unpack_journal(content)
    wanted = {n: plain(c) for n, c in given_columns.items()}
    assert {n: plain(c) for n, c in found.items()} == wanted


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(-5, 55), st.integers(-5, 55))
def test_a_part_of_a_column_is_what_lies_between(times, least, most):
    column = Column(array("q", sorted(times)), sorted(times))
    assert column.between(least, most).values == [t for t in sorted(times) if least <= t <= most]


def test_a_long_column_is_stored_in_stretches_and_journalled_in_blocks():
    count = 3 * 65_536 + 5
    long = Column(array("q", range(count)), [0.5] * count)
    assert [len(part) for part in long.stretches()][-1] == count % MAX_STRETCH
    found = Column()
    for content in pack_journal([(NAMES[0], long)]):
        found.extend(unpack_journal(content)[NAMES[0]])
    assert found.times == long.times


@pytest.mark.parametrize("unpack", [unpack_column, unpack_journal])
@pytest.mark.parametrize("place", [0, 3, 4, 9])
def test_a_bit_that_turned_is_noticed(unpack, place):
    column = Column(array("q", [5, 6]), [1.5, 2.5])
    packed = (
        pack_column(column) if unpack is unpack_column else next(pack_journal([(NAMES[0], column)]))
    )
    turned = bytearray(packed)
    turned[place] ^= 4
    with pytest.raises(FrameError):
        unpack(bytes(turned))
    with pytest.raises(FrameError):
        unpack(packed[:place])
