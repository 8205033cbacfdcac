"""Log lines as kubelet gives them out: options, partial lines, and lines that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.kubelet.criformat import LineRenderer, parse_time

T1, T2, T3 = (f"2026-11-26T10:00:0{n}.5Z".encode() for n in (1, 2, 3))
LINES = (
    T1 + b" stdout F one\n" + T2 + b" stderr F two\n" + T3 + b" stdout P th\n" + T3
) + b" stdout F ree\n"


@pytest.mark.parametrize(
    ("options", "out"),
    [
        pytest.param({}, b"one\ntwo\nthree\n", id="all"),
        pytest.param({"stream": "Stdout"}, b"one\nthree\n", id="stdout"),
        pytest.param({"stream": "Stderr"}, b"two\n", id="stderr"),
        pytest.param({"limit_bytes": 6}, b"one\ntw", id="limit"),
        pytest.param({"since_ns": parse_time(T2.decode())}, b"two\nthree\n", id="since"),
        pytest.param(
            {"timestamps": True},
            T1 + b" one\n" + T2 + b" two\n" + T3 + b" three\n",
            id="timestamps-once-a-line",
        ),
    ],
)
def test_each_option_does_what_kubelet_does(options, out):
    assert LineRenderer(**options).render(LINES) == out


def test_a_partial_line_may_end_in_the_next_block():
    renderer = LineRenderer()
    assert renderer.render(T1 + b" stdout P ab\n") == b"ab"
    assert renderer.render(T1 + b" stdout F c\n" + T1 + b" stdout F d\n") == b"abc\nd\n"[2:]


def test_what_is_no_log_line_is_left_out_and_the_rest_is_not():
    mixed = b"garbage\n" + T1 + b" stdout F one\n" + T1 + b" nowhere F x\n\n"
    assert LineRenderer().render(mixed) == b"one\n"


def test_the_limit_holds_over_all_blocks():
    renderer = LineRenderer(limit_bytes=5)
    assert renderer.render(T1 + b" stdout F abc\n") == b"abc\n"
    assert not renderer.full
    assert renderer.render(T1 + b" stdout F abc\n") == b"a"
    assert renderer.full


CONTENT = st.binary(max_size=50).map(lambda b: b.replace(b"\n", b"\r"))
WRITTEN = st.lists(
    st.tuples(st.sampled_from([b"stdout", b"stderr"]), st.sampled_from(b"FP"), CONTENT)
)


@given(WRITTEN)
def test_the_fast_way_and_the_slow_way_agree(written):
    lines = [T1 + b" " + s + b" " + bytes([tag]) + b" " + c + b"\n" for s, tag, c in written]
    fast, slow = LineRenderer(), LineRenderer(since_ns=1)
    # A progress bar's carriage returns must not be taken for ends of lines.
    assert fast.render(b"".join(lines)) == b"".join(slow.render(line) for line in lines)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("2026-11-26T10:00:00.123456789Z", 1795687200123456789),
    ],
)
def test_times_are_rfc_3339_to_the_nanosecond(text, ns):
    assert parse_time(text) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-26 10:00:00Z"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)
