"""What benchmarks print."""

import json

from benchmarks.figures import Figure, publish, spoken, table

FIGURES = [
    Figure("memory.edgecore.idle", 48.25, "MiB"),
    Figure("sync.rate", 3_000_000.0, "deltas/s"),
]


def test_json_lines_have_standard_output_to_themselves(capsys):
    publish("Title", FIGURES, as_json=True)
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [
        {"figure": "memory.edgecore.idle", "value": 48.25, "unit": "MiB"},
        {"figure": "sync.rate", "value": 3000000, "unit": "deltas/s"},
    ]
    assert "Title" in printed.err


def test_people_get_a_table(capsys):
    publish("Title", FIGURES, as_json=False, notes="a note")
    printed = capsys.readouterr().out
    assert "memory.edgecore.idle       48.2  MiB" in printed
    assert "sync.rate             3,000,000  deltas/s" in printed
    assert printed.endswith("a note\n")


def test_columns_are_aligned_numbers_to_the_right():
    assert table(("what", "n"), [("a", "1"), ("bbbbb", "1,000")]) == (
        "what   n\n-----  -----\na          1\nbbbbb  1,000"
    )


def test_numbers_have_as_many_digits_as_they_have_meaning():
    assert [spoken(n) for n in (0.126, 12.34, 123.4, 8.0, 1234567.8)] == [
        "0.13",
        "12.3",
        "123",
        "8",
        "1,234,568",
    ]
