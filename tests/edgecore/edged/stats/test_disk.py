from __future__ import annotations

import os

from edgecore.edged.stats.disk import DiskUse, measure


def test_a_folder_takes_what_its_files_take_each_counted_once(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/big").write_bytes(os.urandom(100_000))
    os.link(tmp_path / "sub/big", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    used, inodes = measure(tmp_path)
    assert 100_000 <= used < 300_000
    assert inodes == 4  # the folder, sub, big, link


def test_what_is_not_there_takes_nothing(tmp_path):
    assert measure(tmp_path / "nothing") == (0, 0)


def test_a_size_is_remembered_for_a_while(tmp_path):
    now = [0.0]
    disk = DiskUse(60.0, lambda: now[0])
    assert disk.of(tmp_path)[1] == 1
    (tmp_path / "new").write_bytes(b"x")
    now[0] = 59.0
    assert disk.of(tmp_path)[1] == 1
    now[0] = 60.0
    assert disk.of(tmp_path)[1] == 2
