"""fsGroup and removal on a real file system, with what a hostile container leaves in a volume."""

from __future__ import annotations

import os
import stat

import pytest

from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.ownership import MAX_DEPTH, FsGroup, fs_group, own_tree
from edgecore.edged.volumes.tree import remove_tree
from tests.fakes.pods import make_pod

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
GROUP = FsGroup(4321, only_if_root_differs=False)


def owner_of(path):
    found = path.lstat()
    return found.st_gid, oct(stat.S_IMODE(found.st_mode))


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "volume"
    (folder / "sub").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "sub").chmod(0o700)
    (folder / "sub/file").touch(0o600)
    return folder


@as_root
def test_everything_in_a_volume_belongs_to_the_group_and_new_entries_will(tree):
    own_tree(tree, GROUP)
    assert owner_of(tree) == (4321, "0o2775")
    assert owner_of(tree / "sub") == (4321, "0o2770")
    assert owner_of(tree / "sub/file") == (4321, "0o660")
    (tree / "sub/new").touch()
    assert (tree / "sub/new").stat().st_gid == 4321


@as_root
def test_links_out_of_a_volume_change_hands_and_what_they_point_at_does_not(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.touch(0o600)
    before = owner_of(outside)
    (tree / "link").symlink_to(outside)
    (tree / "folder-link").symlink_to(tmp_path)
    os.mkfifo(tree / "pipe", 0o600)
    own_tree(tree, GROUP)
    assert owner_of(outside) == before
    assert (tree / "link").lstat().st_gid == 4321
    assert owner_of(tree / "pipe") == (4321, "0o600")


@as_root
def test_on_root_mismatch_leaves_a_volume_alone_that_was_done_before(tree):
    lazy = FsGroup(4321, only_if_root_differs=True)
    own_tree(tree, lazy)
    (tree / "sub/file").chmod(0o600)
    own_tree(tree, lazy)
    assert owner_of(tree / "sub/file") == (4321, "0o600")
    own_tree(tree, GROUP)
    assert owner_of(tree / "sub/file") == (4321, "0o660")


def deepen(folder, levels):
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


@as_root
@pytest.mark.timeout(60)
def test_a_volume_nested_against_us_is_refused_and_still_removed(tree):
    deepen(tree, 1100)
    with pytest.raises(VolumeError, match=f"nested deeper than {MAX_DEPTH}"):
        own_tree(tree, GROUP)
    remove_tree(tree)
    assert not tree.exists()


def test_removal_takes_everything_in_a_tree_and_nothing_that_links_point_at(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (tree / "link").symlink_to(outside)
    (tree / "sub/link").symlink_to(outside / "keep")
    (tree / ".removing-0").mkdir()  # a name of our own, planted
    (tree / ".removing-0/.removing-1").mkdir()
    (tree / ".removing-1").touch()
    for name in "abc":
        (tree / "sub" / name / "deeper" / name).mkdir(parents=True)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "keep").exists()


@pytest.mark.skipif(not mounts.can_mount(), reason="needs CAP_SYS_ADMIN")
def test_removal_never_crosses_a_mount(tree, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    place = tree / "sub/place"
    place.mkdir()
    mounts.bind(str(outside), place)
    try:
        with pytest.raises(OSError, match="busy|cross-device"):
            remove_tree(tree)
        assert (outside / "keep").exists()
    finally:
        mounts.unmount_below(tree)


def test_the_group_and_its_policy_come_from_the_security_context():
    assert fs_group(make_pod()) is None
    context = {"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"}
    assert fs_group(make_pod(securityContext=context)) == FsGroup(7, only_if_root_differs=True)
