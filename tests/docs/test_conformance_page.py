"""docs/conformance.md names only tests that exist, and says of each behaviour what shows it or why nothing does."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
SECTIONS = ("common/node", "common/storage", "common/network", "e2e_node")
HEAD = ["upstream", "behaviour", "shown by"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(section):
    """The cells of a section's tables, without their heads."""
    (text,) = re.findall(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.M)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row != HEAD and not set(row[0]) <= set("-|")]


ROWS = [(section, row) for section in SECTIONS for row in rows(section)]


@cache
def functions_of(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_the_page_has_rows_where_it_promises_them():
    assert rows("common/node")


def test_every_row_names_upstreams_test_once_and_the_behaviour():
    for section, row in ROWS:
        assert len(row) == 3, row
        assert re.match(r"`\w+\.go` \S", row[0]), row
        assert row[1], row
        assert [(s, r[0]) for s, r in ROWS].count((section, row[0])) == 1, row


def test_every_row_is_shown_by_a_test_or_says_why_not():
    for _, row in ROWS:
        because = re.match(r"(out|missing): \w", row[2])
        assert because or TEST.search(row[2]), row
        assert not (because and TEST.search(row[2])), f"both a test and none: {row}"


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST.findall(PAGE))))
def test_every_test_that_the_page_names_exists(path, name):
    assert name.startswith("test_")
    assert name in functions_of(path)


def test_no_path_of_a_test_escapes_the_pattern():
    assert PAGE.count(".py::") == len(TEST.findall(PAGE))
