"""The file behind a log: tails, lines that are being written, rotation, and what must not be opened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.kubelet.logfile import BLOCK_BYTES, MAX_LINE_BYTES, LogFile


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(b"")
    return path


@pytest.fixture
def log(path):
    log = LogFile(path)
    yield log
    log.close()


def everything(log):
    out = b""
    while block := log.read_lines():
        out += block
    return out


@given(st.lists(st.integers(0, BLOCK_BYTES // 8), max_size=40), st.integers(0, 50), st.booleans())
def test_a_tail_is_the_last_lines_wherever_they_begin(tmp_path_factory, sizes, count, finished):
    path = tmp_path_factory.mktemp("tail") / "0.log"
    lines = [b"x" * size + b"\n" for size in sizes]
    path.write_bytes(b"".join(lines) + (b"" if finished else b"half"))
    log = LogFile(path)
    log.seek_tail(count)
    held = lines if finished else [*lines, b""]
    assert everything(log) == b"".join(held[len(held) - min(count, len(held)) :])
    log.close()


def test_a_line_that_is_being_written_comes_when_it_is_whole(path, log):
    with path.open("ab", buffering=0) as out:
        out.write(b"one\ntw")
        assert everything(log) == b"one\n"
        out.write(b"o\n")
        assert everything(log) == b"two\n"


def test_after_rotation_the_old_file_is_read_to_its_end_first(path, log):
    path.write_bytes(b"one\n")
    assert everything(log) == b"one\n"
    with path.open("ab", buffering=0) as out:
        path.rename(path.with_name("0.log.1"))
        assert not log.rotated()  # the runtime has not opened the next one yet
        out.write(b"two\n")
        path.write_bytes(b"three\n")
        assert not log.rotated()
        assert everything(log) == b"two\n"
        assert log.rotated()
        assert everything(log) == b"three\n"
        assert not log.rotated()


def test_a_file_that_was_cut_short_is_read_from_its_beginning(path, log):
    path.write_bytes(b"one\ntwo\n")
    everything(log)
    with path.open("r+b") as out:
        out.truncate(0)
        out.write(b"new\n")
    assert log.rotated()
    assert everything(log) == b"new\n"


def test_a_line_without_an_end_does_not_grow_without_an_end(path, log):
    path.write_bytes(b"x" * (3 * MAX_LINE_BYTES))
    assert len(log.read_lines()) <= MAX_LINE_BYTES + BLOCK_BYTES + 1


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_only_a_regular_file_is_opened(tmp_path, kind):
    import os

    path = tmp_path / "0.log"
    if kind == "link":
        (tmp_path / "secret").write_text("root:x:0:0")
        path.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OSError):
        LogFile(path)
