"""Log lines, as a person, a program and systemd's journal read them."""

from __future__ import annotations

import json
import logging
import os

import pytest

from corekit.logs import HumanFormatter, JournalFormatter, _is_journal


def record(level=logging.WARNING, message="link lost", exc_info=None, **extra):
    made = logging.LogRecord("edgehub", level, "file", 1, message, None, exc_info)
    made.created = 1_790_000_000.5
    vars(made).update(extra)
    return made


def test_a_person_reads_when_how_bad_and_what():
    line = HumanFormatter().format(record(node="edge-1"))
    assert line == "2026-09-21T14:13:20.500Z WARNING edgehub: link lost  node=edge-1"


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
    ],
)
def test_the_journal_is_given_the_level_and_keeps_the_time_itself(level, priority):
    line = JournalFormatter(json_lines=False).format(record(level))
    assert line == f"<{priority}>edgehub: link lost"


def test_each_line_of_a_traceback_has_its_level_in_the_journal():
    try:
        raise ValueError("broken")
    except ValueError as exc:
        made = record(logging.ERROR, exc_info=(type(exc), exc, exc.__traceback__))
    lines = JournalFormatter(json_lines=False).format(made).splitlines()
    assert lines[0] == "<3>edgehub: link lost"
    assert lines[-1] == "<3>ValueError: broken"
    assert all(line.startswith("<3>") for line in lines)


def test_json_lines_stay_json_behind_the_level():
    line = JournalFormatter(json_lines=True).format(record())
    assert json.loads(line.removeprefix("<4>"))["message"] == "link lost"


def test_only_the_very_stream_that_systemd_named_is_the_journal(tmp_path):
    with (tmp_path / "log").open("w") as file:
        stream = os.fstat(file.fileno())
        assert _is_journal(f"{stream.st_dev}:{stream.st_ino}", file.fileno())
        assert not _is_journal("1:1", file.fileno())
        assert not _is_journal("", file.fileno())
    assert not _is_journal("1:1", -1)
