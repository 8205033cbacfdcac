"""The codec: both twins, the same results and the same errors on any input."""

from __future__ import annotations

from importlib import import_module
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synccore.errors import FrameError
from synccore.messages import (
    BATCH_FORMAT,
    MAX_BODY_BYTES,
    MAX_DELTAS_PER_FRAME,
    MAX_TEXT_BYTES,
    Delta,
    ObjectKey,
    Op,
)

KEY = ObjectKey("Pod", "default", "web")
POD = Delta(Op.UPSERT, KEY, "u-1", 7, 0, b'{"a":1}', 3)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DELTAS = st.builds(
    Delta,
    st.sampled_from(Op),
    st.builds(ObjectKey, TEXT, TEXT, TEXT),
    TEXT,
    U64,
    U64,
    st.binary(max_size=40),
    U64,
)
RECORD = (
    bytes([0, 3]) + b"Pod" + bytes([0, 1]) + b"x" + bytes([0]) + pack("<Q", 1) + bytes([0, 0, 0])
)


@given(st.lists(DELTAS, max_size=8))
def test_a_batch_decodes_to_what_was_encoded(codec, deltas):
    assert codec.decode_batch(codec.encode_batch(deltas)) == deltas


def test_a_decoded_delta_has_its_types(codec):
    (delta,) = codec.decode_batch(codec.encode_batch([POD]))
    assert (type(delta), type(delta.op), type(delta.key)) == (Delta, Op, ObjectKey)


@pytest.mark.parametrize(
    ("batch", "reason", "offset"),
    [
        pytest.param(b"", "unknown batch format", 0, id="empty"),
        pytest.param(b"\x09", "unknown batch format", 0, id="other-format"),
        pytest.param(
            b"\x01" + RECORD + b"\x04", "unknown operation", 1 + len(RECORD), id="operation"
        ),
        pytest.param(
            b"\x01" + RECORD + b"\x00\x03Po", "record is cut", 1 + len(RECORD), id="cut-text"
        ),
        pytest.param(b"\x01" + RECORD[:-1], "record is cut", 1, id="cut-at-body-length"),
        pytest.param(
            b"\x01" + RECORD[:-1] + b"\x05abc", "record is cut", 1, id="lying-body-length"
        ),
        pytest.param(b"\x01\x00\xff\xff\x7f", "text is too long", 1, id="lying-text-length"),
        pytest.param(
            b"\x01\x00" + b"\xff" * 9 + b"\x02", "number is too large", 1, id="overlong-uvarint"
        ),
        pytest.param(b"\x01\x00\x02\xff\xfe", "text is not UTF-8", 1, id="utf-8"),
        pytest.param(
            b"\x01" + RECORD[:-1] + b"\xff\xff\xff\x7f", "body is too long", 1, id="huge-body"
        ),
    ],
)
def test_a_bad_batch_names_the_reason_and_the_record(codec, batch, reason, offset):
    with pytest.raises(FrameError) as caught:
        codec.decode_batch(batch)
    assert (caught.value.reason, caught.value.offset) == (reason, offset)


def test_the_longest_body_and_text_pass_and_one_byte_more_does_not(codec):
    longest = POD._replace(uid="u" * MAX_TEXT_BYTES, body=b"b" * MAX_BODY_BYTES)
    assert codec.decode_batch(codec.encode_batch([longest])) == [longest]
    for worse in (
        longest._replace(uid="u" * (MAX_TEXT_BYTES + 1)),
        longest._replace(body=b"b" * (MAX_BODY_BYTES + 1)),
        longest._replace(version=2**64),
        longest._replace(sequence=-1),
    ):
        with pytest.raises(FrameError) as caught:
            codec.encode_batch([POD, worse])
        assert caught.value.offset == 1


def test_a_batch_of_too_many_deltas_is_refused_both_ways(codec):
    with pytest.raises(FrameError, match="too many deltas"):
        codec.encode_batch([POD] * (MAX_DELTAS_PER_FRAME + 1))
    with pytest.raises(FrameError, match="too many deltas"):
        codec.decode_batch(bytes([BATCH_FORMAT]) + RECORD * (MAX_DELTAS_PER_FRAME + 1))


@given(st.lists(st.tuples(U64, U64), unique_by=lambda e: e[0], max_size=20), st.randoms())
def test_a_digest_does_not_depend_on_order_but_on_every_entry(codec, entries, random):
    digest = codec.digest_entries(codec.pack_entries(entries))
    random.shuffle(entries)
    assert codec.digest_entries(codec.pack_entries(entries)) == digest
    if entries:
        (hashed, version), *rest = entries
        other = codec.pack_entries([(hashed, version ^ 1), *rest])
        assert codec.digest_entries(other) != digest
        assert codec.digest_entries(codec.pack_entries(rest)) != digest


INVENTORY = st.dictionaries(st.integers(0, 30), st.integers(0, 2), max_size=20)


@given(INVENTORY, INVENTORY)
def test_sending_and_forgetting_the_difference_makes_the_remote_equal(codec, local, remote):
    send, forget = codec.diff_entries(
        codec.pack_entries(list(local.items())), codec.pack_entries(list(remote.items()))
    )
    for hashed in forget:
        del remote[hashed]
    assert all(remote.get(hashed) != local[hashed] for hashed in send)  # nothing is sent in vain
    remote.update({hashed: local[hashed] for hashed in send})
    assert remote == local


@pytest.mark.parametrize("entries", [b"x" * 15, pack("<4Q", 2, 0, 1, 0), pack("<4Q", 1, 0, 1, 0)])
def test_an_inventory_that_is_cut_or_unsorted_is_refused(codec, entries):
    with pytest.raises(FrameError):
        codec.diff_entries(b"", entries)


@pytest.mark.compiled
@given(st.binary(max_size=96))
@example(b"\x01" + RECORD)
def test_twins_agree_on_any_bytes(tail):
    for batch in (tail, bytes([BATCH_FORMAT]) + tail, bytes([BATCH_FORMAT]) + RECORD + tail):
        assert outcome("synccore._codec", batch) == outcome("synccore._codec_py", batch)


@pytest.mark.compiled
@given(st.lists(DELTAS, min_size=1, max_size=4), st.integers(0), st.integers(0, 255))
def test_twins_agree_on_a_batch_with_one_byte_changed(deltas, place, value):
    batch = bytearray(import_module("synccore._codec_py").encode_batch(deltas))
    batch[place % len(batch)] = value
    assert outcome("synccore._codec", bytes(batch)) == outcome("synccore._codec_py", bytes(batch))


def outcome(module: str, batch: bytes):
    twin = import_module(module)
    results: list[object] = []
    for call in (
        lambda: twin.decode_batch(batch),
        lambda: twin.digest_entries(batch),
        lambda: twin.diff_entries(b"", batch),
    ):
        try:
            results.append(call())
        except FrameError as exc:
            results.append((exc.reason, exc.offset))
    return results
