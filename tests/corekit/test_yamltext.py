"""YAML: what JSON can say, or one clear line."""

from __future__ import annotations

import pytest

from corekit.yamltext import MAX_DEPTH, YamlError, parse_yaml


def test_a_date_stays_text_and_aliases_are_followed():
    assert parse_yaml(b"a: &x 2026-01-01\nb: *x") == {"a": "2026-01-01", "b": "2026-01-01"}


def test_an_empty_text_is_nothing():
    assert parse_yaml(b"") is None


@pytest.mark.parametrize(
    "text",
    [
        b"!!bool x",
        b'!!int ""',
        b'!!float ""',
        b"!!timestamp x",
        b"0b_",
        b"!!binary x",
        b"? [a]\n: b",
        b"!!python/name:os.system x",
        b"\xff",
        b"\x00",
        b"a: [",
        b"--- a\n--- b",
        b"*nowhere",
    ],
)
def test_what_is_wrong_is_one_line(text):
    with pytest.raises(YamlError, match="^is not YAML: .") as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("brackets", [b"[]", b"{}"])
def test_nesting_that_would_end_the_process_is_refused(brackets):
    left, right = brackets[:1], brackets[1:]
    inner = b"" if left == b"[" else b"a: "
    deepest = (left + inner) * MAX_DEPTH + b"1" + right * MAX_DEPTH
    assert parse_yaml(deepest)
    with pytest.raises(YamlError, match=f"nested deeper than {MAX_DEPTH} levels"):
        parse_yaml((left + inner) * 60_000)


def test_aliases_are_refused_where_they_are_not_wanted():
    with pytest.raises(YamlError, match="aliases"):
        parse_yaml(b"a: &x 1\nb: *x", aliases=False)
