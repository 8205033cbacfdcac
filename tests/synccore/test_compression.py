"""Batches are compressed where it pays, and nothing that lies about its size is ever inflated beyond it."""

from __future__ import annotations

import os
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ProtocolError
from synccore.compression import restore, shrink
from synccore.errors import FrameError, LimitError
from synccore.messages import MAX_FRAME_BYTES, Compression


@given(st.binary(max_size=200), st.integers(1, 100))
def test_what_was_shrunk_is_restored(piece, times):
    batch = piece * times
    compression, small = shrink(batch)
    assert restore(compression, small, len(batch)) == batch
    assert len(small) <= len(batch)


@pytest.mark.parametrize("batch", [b"a" * 1024, os.urandom(4096)], ids=["small", "random"])
def test_what_does_not_pay_stays_as_it_is(batch):
    assert shrink(batch) == (Compression.NONE, batch)


def test_a_bomb_is_refused_before_it_is_inflated():
    bomb = zlib.compress(bytes(1 << 28), 9)
    tracemalloc.start()
    for declared in (MAX_FRAME_BYTES + 1, MAX_FRAME_BYTES, 10):
        with pytest.raises(ProtocolError):
            restore(Compression.ZLIB, bomb, declared)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_FRAME_BYTES


@pytest.mark.parametrize("declared", [0, 9, 11, 2**31])
def test_a_declared_size_that_is_not_true_is_refused(declared):
    with pytest.raises((FrameError, LimitError)):
        restore(Compression.ZLIB, zlib.compress(b"0123456789"), declared)


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"\x00" + b])
def test_a_damaged_stream_is_refused(spoil):
    with pytest.raises(FrameError):
        restore(Compression.ZLIB, spoil(zlib.compress(b"0123456789")), 10)


@given(st.binary(max_size=100), st.integers(0, 2**32 - 1))
def test_any_bytes_are_restored_or_refused(batch, declared):
    try:
        whole = restore(Compression.ZLIB, batch, declared)
    except ProtocolError:
        return
    assert len(whole) == declared
