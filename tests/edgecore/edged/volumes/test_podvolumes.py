"""Volumes on a real file system; mounts only where the machine lets us."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from edgecore.edged.spec.podspec import HostPath, ProjectedToken
from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.atomicwriter import File, check_payload_path, write_payload
from edgecore.edged.volumes.claims import ClaimedVolume
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.podvolumes import PodVolumes
from edgecore.edged.volumes.subpath import open_inside, pin
from edgecore.edged.volumes.tokens import TokenView
from tests.fakes.pods import container, make_pod, volume_inputs

needs_mounts = pytest.mark.skipif(not mounts.can_mount(), reason="needs CAP_SYS_ADMIN")


@pytest.fixture
def volumes(tmp_path):
    volumes = PodVolumes(tmp_path / "volumes", "u-1")
    yield volumes
    volumes.remove()


def prepare(volumes, volume, **objects):
    """Make one volume; return its path."""
    pod = make_pod(volumes=[{"name": "v", **volume}], metadata={"labels": {"a": "1", "b": "x\ny"}})
    contents = {(kind, "o"): keys for kind, keys in objects.items()}
    volumes.prepare(pod, volume_inputs(lambda kind, name: contents.get((kind, name))))
    return volumes.place("v").path


def visible(folder):
    return {
        str(p.relative_to(folder)): p.read_text()
        for p in folder.rglob("*")
        if p.is_file() and not str(p.relative_to(folder)).startswith("..")
    }


def test_files_are_links_through_one_link_that_is_switched(tmp_path):
    assert write_payload(tmp_path, {"a": File(b"1", 0o644), "sub/b": File(b"2", 0o600)})
    first = str((tmp_path / "..data").readlink())
    assert str((tmp_path / "a").readlink()) == "..data/a"
    assert str((tmp_path / "sub").readlink()) == "..data/sub"
    assert stat.S_IMODE((tmp_path / "sub/b").stat().st_mode) == 0o600
    assert not write_payload(tmp_path, {"a": File(b"1", 0o644), "sub/b": File(b"2", 0o600)})
    assert write_payload(tmp_path, {"a": File(b"new", 0o644)})
    assert str((tmp_path / "..data").readlink()) != first
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..2")) == [
        "..data",
        "a",
    ]
    assert not (tmp_path / first).exists()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "..data", "x" * 300])
def test_a_payload_path_cannot_leave_its_folder(path):
    with pytest.raises(ValueError, match="invalid path"):
        check_payload_path(path)


def test_a_config_map_becomes_files(volumes):
    path = prepare(volumes, {"configMap": {"name": "o"}}, ConfigMap={"a": b"1", "b": b"2"})
    assert visible(path) == {"a": "1", "b": "2"}
    assert path.parent.name == "kubernetes.io~configmap"


def test_items_choose_keys_paths_and_modes(volumes):
    items = [{"key": "a", "path": "deep/name", "mode": 0o400}]
    path = prepare(
        volumes, {"configMap": {"name": "o", "items": items}}, ConfigMap={"a": b"1", "b": b"2"}
    )
    assert (
        visible(path) | visible(path / "deep") == {"name": "1"}
        or (path / "deep/name").read_text() == "1"
    )
    assert stat.S_IMODE((path / "deep/name").stat().st_mode) == 0o400
    assert not (path / "b").exists()


def test_a_secret_lies_in_memory(volumes):
    path = prepare(volumes, {"secret": {"secretName": "o"}}, Secret={"k": b"hidden"})
    assert (path / "k").read_text() == "hidden"
    assert path.is_mount() == mounts.can_mount()
    volumes.remove()
    assert not volumes.folder.exists()


@pytest.mark.parametrize(
    ("volume", "objects", "message"),
    [
        ({"configMap": {"name": "o"}}, {}, 'configmap "o" not found'),
        ({"secret": {"secretName": "o"}}, {}, 'secret "o" not found'),
        (
            {"configMap": {"name": "o", "items": [{"key": "z", "path": "z"}]}},
            {"ConfigMap": {}},
            "configmap references non-existent config key: z",
        ),
        (
            {"configMap": {"name": "o", "items": [{"key": "a", "path": "../../x"}]}},
            {"ConfigMap": {"a": b""}},
            "invalid path '../../x'",
        ),
    ],
)
def test_a_volume_that_cannot_be_made_is_named(volumes, volume, objects, message):
    with pytest.raises(VolumeError, match='failed for volume "v" : ') as caught:
        prepare(volumes, volume, **objects)
    assert message in caught.value.message


def test_optional_objects_may_be_missing(volumes):
    assert visible(prepare(volumes, {"configMap": {"name": "o", "optional": True}})) == {}


def test_a_projected_volume_joins_its_sources(volumes):
    sources = [
        {"configMap": {"name": "o"}},
        {"secret": {"name": "o", "items": [{"key": "k", "path": "key"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            }
        },
    ]
    volume = {"projected": {"sources": sources}}
    path = prepare(volumes, volume, ConfigMap={"a": b"1"}, Secret={"k": b"2"})
    assert visible(path) == {"a": "1", "key": "2", "labels": 'a="1"\nb="x\\ny"'}


@needs_mounts
def test_an_empty_dir_in_memory_is_a_sized_tmpfs(volumes):
    path = prepare(volumes, {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    disk = os.statvfs(path)
    assert disk.f_blocks * disk.f_frsize == 1 << 20
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_host_paths_are_checked_by_type(volumes, tmp_path):
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        for kind, name in (
            ("File", "file"),
            ("Directory", "."),
            ("Socket", "sock"),
            ("DirectoryOrCreate", "made/deep"),
            ("FileOrCreate", "made/file"),
            ("", "not/there"),
        ):
            path = os.path.normpath(tmp_path / name)
            assert str(prepare(volumes, {"hostPath": {"path": path, "type": kind}})) == path
    with pytest.raises(VolumeError, match=r"hostPath type check failed: .* is not a directory"):
        prepare(volumes, {"hostPath": {"path": str(tmp_path / "file"), "type": "Directory"}})


def test_removal_leaves_what_a_host_path_shows(volumes, tmp_path):
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    prepare(volumes, {"hostPath": {"path": str(keep)}})
    prepare(volumes, {"emptyDir": {}})
    if mounts.can_mount():
        pin(keep, ".", volumes.folder / "volume-subpaths/v/app/0", create=False)
    volumes.remove()
    assert (keep / "file").exists()
    assert not volumes.folder.exists()


@pytest.mark.parametrize(
    "sub_path", ["../secret", "/etc", "a/../../secret", "escape/passwd", "escape"]
)
def test_a_sub_path_cannot_leave_its_volume(tmp_path, sub_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").touch()
    (volume / "escape").symlink_to("/etc")
    with pytest.raises(VolumeError):
        open_inside(volume, sub_path, create=True)


def test_a_sub_path_is_made_where_the_volume_may_be_written(tmp_path):
    fd = open_inside(tmp_path, "new/deep", create=True)
    os.close(fd)
    assert (tmp_path / "new/deep").is_dir()
    with pytest.raises(VolumeError, match="No such file"):
        open_inside(tmp_path, "other", create=False)


@needs_mounts
def test_a_pinned_sub_path_does_not_follow_updates(volumes):
    path = prepare(volumes, {"configMap": {"name": "o"}}, ConfigMap={"key": b"old"})
    pinned = pin(path, "key", volumes.folder / "volume-subpaths/v/app/0", create=False)
    prepare(volumes, {"configMap": {"name": "o"}}, ConfigMap={"key": b"new"})
    assert ((path / "key").read_text(), pinned.read_text()) == ("new", "old")


def test_a_vanished_object_leaves_a_running_pods_files(volumes):
    path = prepare(volumes, {"configMap": {"name": "o"}}, ConfigMap={"key": b"1"})
    assert prepare(volumes, {"configMap": {"name": "o"}}) == path
    assert visible(path) == {"key": "1"}


def test_a_container_name_cannot_be_a_path():
    with pytest.raises(Exception, match="name"):
        make_pod(containers=[container("../../x")])


def test_paths_that_collide_are_refused_and_leave_nothing_behind(volumes):
    items = [{"key": "a", "path": "x"}, {"key": "b", "path": "x/y"}]
    source = {"configMap": {"name": "o", "items": items}}
    for _ in range(3):
        with pytest.raises(VolumeError, match='failed for volume "v" : '):
            prepare(volumes, source, ConfigMap={"a": b"1", "b": b"2"})
    assert list(volumes.folder.rglob("..2*")) == []


def test_an_optional_object_that_goes_takes_its_files_along(volumes):
    pod = make_pod(volumes=[{"name": "v", "configMap": {"name": "o", "optional": True}}])
    here = {("ConfigMap", "o"): {"k": b"1"}}
    volumes.prepare(pod, volume_inputs(lambda *key: here.get(key)))
    path = volumes.place("v").path
    assert visible(path) == {"k": "1"}
    here.clear()
    assert volumes.refresh(pod, volume_inputs(lambda *key: here.get(key)))
    assert visible(path) == {}


def test_what_containers_made_of_an_empty_dir_stays_with_a_restart(volumes):
    path = prepare(volumes, {"emptyDir": {}})
    path.chmod(0o700)
    (path / "file").touch()
    assert prepare(volumes, {"emptyDir": {}}) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert (path / "file").exists()


def test_a_claim_that_is_gone_is_still_the_pods_that_had_it(volumes, tmp_path):
    place = HostPath(path=str(tmp_path))
    claimed = ClaimedVolume("disk", place, managed=True, read_only=True)
    pod = make_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    volumes.prepare(pod, volume_inputs(claims={"v": claimed}))
    again = PodVolumes(volumes.folder.parent, "u-1")  # the agent was restarted
    again.prepare(pod, volume_inputs(claims={"v": VolumeError("gone")}))
    assert (again.place("v").path, again.place("v").read_only) == (tmp_path, True)


def test_a_local_volume_whose_folder_is_missing_says_so(volumes, tmp_path):
    place = HostPath(path=str(tmp_path / "no"))
    claimed = ClaimedVolume("disk", place, managed=True, read_only=False)
    pod = make_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    with pytest.raises(VolumeError) as caught:
        volumes.prepare(pod, volume_inputs(claims={"v": claimed}))
    assert caught.value.message == (
        f'MountVolume.SetUp failed for volume "v" : path "{tmp_path}/no" does not exist'
    )


@needs_mounts
def test_a_token_is_nobody_elses_where_the_pod_says_who_reads_it(volumes):
    source = ProjectedToken(path="token")
    sources = [{"serviceAccountToken": {"path": "token"}}]
    volume = {"name": "v", "projected": {"sources": sources}}
    tokens = TokenView(contents={source: b"secret"})
    for context, expected in (
        ({}, (0o644, os.geteuid(), os.getegid())),
        ({"runAsUser": 1000}, (0o600, 1000, os.getegid())),
        ({"fsGroup": 2000}, (0o640, os.geteuid(), 2000)),
    ):
        pod = make_pod(volumes=[volume], securityContext=context)
        volumes.prepare(pod, volume_inputs(tokens=tokens))
        found = (volumes.place("v").path / "token").stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == expected
        volumes.remove()
