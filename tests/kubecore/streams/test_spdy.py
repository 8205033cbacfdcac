import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.streams import spdy
from kubecore.streams.errors import SpdyError
from kubecore.streams.spdy_headers import DICTIONARY, MAX_HEADER_BYTES, HeaderWriter

HEADERS = st.dictionaries(st.text("abc-", min_size=1), st.text(max_size=20), max_size=5)


def test_the_dictionary_is_the_one_of_the_protocol():
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(HEADERS, max_size=4), st.integers(1, 7))
def test_streams_opened_by_one_end_are_read_by_the_other_in_any_pieces(all_headers, step):
    sender, receiver = spdy.SpdyConnection(), spdy.SpdyConnection()
    sent = b"".join(sender.open_stream(2 * i + 1, h) for i, h in enumerate(all_headers))
    frames = [f for at in range(0, len(sent), step) for f in receiver.feed(sent[at : at + step])]
    assert [(f.stream, f.headers) for f in frames] == [
        (2 * i + 1, h) for i, h in enumerate(all_headers)
    ]


@given(st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=50))), st.integers(1, 60))
def test_data_comes_out_as_it_went_in_whatever_the_pieces(parts, step):
    sent = b"".join(spdy.data_frame(stream, data, fin=not data) for stream, data in parts)
    receiver, got, ended = spdy.SpdyConnection(), {}, []
    for at in range(0, len(sent), step):
        for frame in receiver.feed(sent[at : at + step]):
            got[frame.stream] = got.get(frame.stream, b"") + frame.content
            ended += [frame.stream] if frame.fin else []
    wanted = {}
    for stream, data in parts:
        wanted[stream] = wanted.get(stream, b"") + data
    assert got == wanted
    assert ended == [stream for stream, data in parts if not data]


def test_pings_resets_and_frames_unknown_to_us_are_told_apart():
    settings = b"\x80\x03\x00\x04\x00\x00\x00\x04\x00\x00\x00\x00"
    frames = list(spdy.SpdyConnection().feed(settings + spdy.ping(7) + spdy.reset(3)))
    assert frames == [spdy.Ping(7), spdy.Reset(3)]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"\x80\x02\x00\x01\x00\x00\x00\x00", "not SPDY/3", id="version"),
        pytest.param(b"\x80\x03\x00\x01\x00\xff\xff\xff", "control frame of", id="long"),
        pytest.param(b"\x80\x03\x00\x06\x00\x00\x00\x01x", "too short", id="short"),
        pytest.param(b"HTTP/1.1 400 Bad", None, id="http"),
        pytest.param(b"\x80\x03\x00\x01\x00\x00\x00\x0c" + b"\x01" * 12, "inflate", id="headers"),
    ],
)
def test_what_is_not_spdy_ends_the_connection(raw, problem):
    connection = spdy.SpdyConnection()
    if problem is None:  # it reads as the head of a data frame: of a stream that nobody opened
        assert all(isinstance(f, spdy.Data) for f in connection.feed(raw))
        return
    with pytest.raises(SpdyError, match=problem):
        list(connection.feed(raw))


def test_headers_that_inflate_without_end_are_refused():
    block = HeaderWriter().block({"x": "0" * (MAX_HEADER_BYTES + 1)})
    frame = b"\x80\x03\x00\x01" + (len(block) + 10).to_bytes(4, "big") + bytes(10) + block
    with pytest.raises(SpdyError, match="larger than"):
        list(spdy.SpdyConnection().feed(frame))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(raw):
    with suppress(SpdyError):
        list(spdy.SpdyConnection().feed(raw))
