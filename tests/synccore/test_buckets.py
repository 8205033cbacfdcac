"""Buckets of an inventory: the ones that differ are found, and nothing else has to be listed."""

from __future__ import annotations

from struct import iter_unpack, pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synccore.buckets import (
    DIGEST_BYTES,
    ENTRY_BYTES,
    MAX_BUCKETS,
    MIN_BUCKETS,
    check_selected,
    check_wanted,
    differing,
    select,
    summarize,
)
from synccore.errors import FrameError, LimitError

U64 = st.integers(0, 2**64 - 1)
ENTRIES = st.dictionaries(U64, U64, max_size=300)
# What lies at the edges of buckets.
EDGES = st.builds(
    lambda high, off: ((high << 48) + off) % 2**64, st.integers(0, 65535), st.integers(-1, 1)
)
HELD = ENTRIES | st.dictionaries(EDGES, U64, max_size=300)


def packed(entries):
    return b"".join(pack("<QQ", *entry) for entry in sorted(entries.items()))


def unpacked(entries):
    return dict(iter_unpack("<QQ", entries))


@given(HELD, HELD, st.data())
def test_what_differs_is_in_a_wanted_bucket_on_both_sides(held, changes, data):
    gone = data.draw(st.sets(st.sampled_from(sorted(held)), max_size=5)) if held else set()
    other = {k: v for k, v in (held | changes).items() if k not in gone}
    wanted = differing(packed(other), summarize(packed(held)))
    mine, yours = unpacked(select(packed(held), wanted)), unpacked(select(packed(other), wanted))
    differ = {k for k in held.keys() | other.keys() if held.get(k) != other.get(k)}
    assert differ == {k for k in mine.keys() | yours.keys() if mine.get(k) != yours.get(k)}
    check_selected(packed(mine), wanted)


@given(HELD)
def test_a_summary_has_a_power_of_two_of_buckets_and_a_selection_of_all_is_all(held):
    entries = packed(held)
    buckets = len(summarize(entries)) // DIGEST_BYTES
    assert MIN_BUCKETS <= buckets <= MAX_BUCKETS
    assert buckets.bit_count() == 1
    assert select(entries, b"\xff" * (buckets // 8)) == entries
    assert select(entries, bytes(buckets // 8)) == b""


def test_ten_changes_in_ten_thousand_records_are_found_in_few_bytes():
    held = {n * 1_844_674_407_370_955: n for n in range(10_000)}
    other = held | {n * 1_844_674_407_370_955: 1 for n in range(5, 10_000, 1000)}
    summary = summarize(packed(held))
    listed = select(packed(held), differing(packed(other), summary))
    assert len(summary) + len(listed) < 12_000 < ENTRY_BYTES * len(held) / 10


def test_sides_that_seem_equal_list_everything():
    entries = packed({1: 1, 2**63: 2})
    assert differing(entries, summarize(entries)) == b"\xff"


@pytest.mark.parametrize("size", [0, 7, 56, 65, 72, 8 * 24, 8 * MAX_BUCKETS * 2])
def test_a_summary_of_another_length_is_refused(size):
    with pytest.raises(LimitError, match="summary bytes"):
        differing(b"", bytes(size))


def test_wanted_bits_that_do_not_fit_the_summary_are_refused():
    with pytest.raises(LimitError, match="buckets wanted"):
        check_wanted(bytes(2), summarize(b""))


def test_an_entry_of_a_bucket_that_was_not_wanted_is_refused():
    with pytest.raises(FrameError, match="not wanted"):
        check_selected(packed({2**63: 1}), b"\x01")


@given(st.binary(max_size=400), st.binary(max_size=64))
def test_any_bytes_are_taken_or_refused(entries, summary):
    entries = entries[: len(entries) // ENTRY_BYTES * ENTRY_BYTES]
    try:
        wanted = differing(packed(unpacked(entries)), summary)
    except LimitError:
        return
    assert len(wanted) * 8 * DIGEST_BYTES == len(summary)
