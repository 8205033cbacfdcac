"""What a container is given of its pod's volumes, and what it is refused, in kubelet's words."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import EmptyDir, HostPath
from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.containermounts import container_mounts
from edgecore.edged.volumes.emptydirs import tmpfs_bytes
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.hostpaths import check_allowed, check_host_path
from edgecore.edged.volumes.podvolumes import PodVolumes
from edgecore.edged.volumes.subpath import hold
from tests.fakes.pods import container, make_pod, volume_inputs

needs_mounts = pytest.mark.skipif(not mounts.can_mount(), reason="needs CAP_SYS_ADMIN")
GI = 1 << 30


@pytest.fixture
def given(tmp_path):
    """Return the mounts of a container with these volumeMounts; its one volume is an emptyDir."""
    volumes = PodVolumes(tmp_path / "volumes", "u-1")

    def mounts_of(*volume_mounts, env=None, can_recurse=False, **fields):
        app = container(volumeMounts=[{"name": "v", **m} for m in volume_mounts], **fields)
        pod = make_pod(containers=[app], volumes=[{"name": "v", "emptyDir": {}}])
        volumes.prepare(pod, volume_inputs())
        return container_mounts(volumes, pod.spec.containers[0], env or {}, can_recurse=can_recurse)

    yield mounts_of
    volumes.remove()


def test_paths_are_absolute_and_flags_are_the_mounts_own(given):
    plain, read_only, follows = given(
        {"mountPath": "data"},
        {"mountPath": "/ro", "readOnly": True, "recursiveReadOnly": "IfPossible"},
        {"mountPath": "/host", "mountPropagation": "HostToContainer"},
    )
    assert (plain.container_path, plain.read_only, plain.propagation) == ("/data", False, "None")
    assert (read_only.container_path, read_only.read_only) == ("/ro", True)
    assert follows.propagation == "HostToContainer"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "other"}, 'cannot find volume "other" to mount into container "app"'),
        ({"subPath": "/etc"}, "error SubPath `/etc` must not be an absolute path"),
        ({"subPath": "a/../.."}, "unable to provision SubPath `a/../..`: must not contain '..'"),
        ({"subPathExpr": "$(NO)"}, 'missing value for "NO" required for expansion'),
        ({"subPathExpr": "$(UP)/x"}, "unable to provision SubPath `../x`: must not contain '..'"),
        (
            {"mountPropagation": "Bidirectional"},
            'volume "v": Bidirectional mount propagation is available only to privileged containers',
        ),
        (
            {"recursiveReadOnly": "Enabled"},
            'volume "v" requested recursive read-only mode, but it is not read-only',
        ),
        (
            {"recursiveReadOnly": "Enabled", "readOnly": True},
            'volume "v" requested recursive read-only mode, but it is not supported by the runtime',
        ),
        (
            {
                "recursiveReadOnly": "IfPossible",
                "readOnly": True,
                "mountPropagation": "HostToContainer",
            },
            (
                'volume "v" requested recursive read-only mode, but it is not '
                'compatible with propagation "HostToContainer"'
            ),
        ),
    ],
)
def test_a_mount_that_cannot_be_had_is_refused_with_its_reason(given, fields, message):
    with pytest.raises(ContainerStartError) as caught:
        given({"mountPath": "/x", **fields}, env={"UP": ".."})
    assert (caught.value.reason, caught.value.message) == ("CreateContainerConfigError", message)


@pytest.mark.parametrize(
    ("wanted", "can", "found"),
    [
        ("Enabled", True, True),
        ("IfPossible", True, True),
        ("IfPossible", False, False),
        ("Disabled", True, False),
        (None, True, False),
    ],
)
def test_what_lies_below_a_mount_is_read_only_too_where_the_runtime_can(given, wanted, can, found):
    fields = {"mountPath": "/x", "readOnly": True}
    if wanted:
        fields["recursiveReadOnly"] = wanted
    (made,) = given(fields, can_recurse=can)
    assert (made.read_only, made.recursive_read_only) == (True, found)


def test_only_a_pods_own_files_get_its_se_linux_label(tmp_path):
    volumes = PodVolumes(tmp_path / "volumes", "u-1")
    shared = {"name": "host", "hostPath": {"path": str(tmp_path)}}
    wanted = [{"name": "v", "mountPath": "/v"}, {"name": "host", "mountPath": "/host"}]
    pod = make_pod(
        containers=[container(volumeMounts=wanted)], volumes=[{"name": "v", "emptyDir": {}}, shared]
    )
    volumes.prepare(pod, volume_inputs())
    made = container_mounts(volumes, pod.spec.containers[0], {})
    assert {m.container_path: m.se_linux_relabel for m in made} == {"/v": True, "/host": False}
    volumes.remove()


def test_a_privileged_container_may_propagate_both_ways_but_not_a_sub_path(given):
    both = {"mountPath": "/x", "mountPropagation": "Bidirectional"}
    privileged = {"securityContext": {"privileged": True}}
    assert given(both, **privileged)[0].propagation == "Bidirectional"
    with pytest.raises(ContainerStartError, match="not served for a subPath"):
        given(both | {"subPath": "a"}, **privileged)


@pytest.mark.parametrize(
    ("limits", "size", "expected"),
    [
        ([None], None, 4 * GI),  # the node's
        (["1Gi"], None, GI),  # the pod's
        (["1Gi", "2Gi"], None, 3 * GI),
        (["1Gi", None], None, 4 * GI),
        (["1Gi"], "16Mi", 16 << 20),  # the volume's
        (["1Gi"], "9Gi", GI),
        (["1Gi"], "0", GI),
    ],
)
def test_a_tmpfs_is_as_large_as_the_least_of_what_is_allowed(limits, size, expected):
    containers = [
        container(f"c{n}", resources={"limits": {"memory": m}} if m else {})
        for n, m in enumerate(limits)
    ]
    pod = make_pod(containers=containers)
    allocatable = {"memory": Decimal(4 * GI)}
    assert tmpfs_bytes(EmptyDir(medium="Memory", size_limit=size), pod, allocatable) == expected


@pytest.mark.parametrize(
    ("path", "allowed", "good"),
    [
        ("/anything", ["/"], True),
        ("{0}/in", ["{0}/in"], True),
        ("{0}/in/deep/er", ["{0}/in"], True),
        ("{0}/inside", ["{0}/in"], False),
        ("{0}", ["{0}/in"], False),
        ("{0}/in/link/x", ["{0}/in"], False),
        ("{0}/door/x", ["{0}/in"], True),  # a link into what is allowed
        ("{0}/in", [], False),
    ],
)
def test_links_are_followed_before_a_host_path_is_judged(tmp_path, path, allowed, good):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path)
    (tmp_path / "door").symlink_to(tmp_path / "in")
    allowed = [a.format(tmp_path) for a in allowed]
    if good:
        check_allowed(Path(path.format(tmp_path)), allowed)
        return
    with pytest.raises(VolumeError, match="is not allowed on this node: pods.allowed_host_paths"):
        check_allowed(Path(path.format(tmp_path)), allowed)


def test_nothing_is_made_outside_of_what_is_allowed(tmp_path):
    host_path = HostPath(path=str(tmp_path / "new"), type="DirectoryOrCreate")
    with pytest.raises(VolumeError, match="not allowed"):
        check_host_path(host_path, [str(tmp_path / "in")])
    assert not (tmp_path / "new").exists()


@needs_mounts
def test_a_host_path_that_was_allowed_stays_what_it_was(tmp_path):
    inside, outside, place = tmp_path / "in", tmp_path / "out", tmp_path / "place"
    for folder in (inside / "data", outside):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    try:
        hold(inside / "data", place, [str(inside)])
        (inside / "data").rename(inside / "moved")
        (inside / "data").symlink_to(outside)
        assert (place / "file").read_text() == "data"
        with pytest.raises(VolumeError, match="not allowed"):
            hold(inside / "data", place, [str(inside)])
    finally:
        mounts.unmount_below(tmp_path)


@needs_mounts
def test_a_host_path_that_is_not_there_yet_is_made_and_held_too(tmp_path):
    volumes = PodVolumes(tmp_path / "volumes", "u-1", [str(tmp_path / "in")])
    path = tmp_path / "in/new"
    pod = make_pod(volumes=[{"name": "v", "hostPath": {"path": str(path)}}])
    try:
        volumes.prepare(pod, volume_inputs())
        place = volumes.place("v")
        assert place.held
        assert path.samefile(place.path)
    finally:
        volumes.remove()
    assert path.is_dir()


@needs_mounts
def test_unmounting_a_held_path_leaves_the_nodes_own_mounts(tmp_path):
    source, place = tmp_path / "source", tmp_path / "pods/place"
    source.mkdir()
    mounts.bind(str(source), source)
    mounts._mount("", str(source), "", 0x100000, "")  # MS_SHARED
    (source / "sub").mkdir()
    mounts.mount_tmpfs(source / "sub")
    (source / "sub/file").touch()
    try:
        hold(source, place, ["/"])
        assert (place / "sub/file").exists()
        mounts.unmount_below(tmp_path / "pods")
        assert (source / "sub/file").exists()
        assert not list(place.iterdir())
    finally:
        mounts.unmount_below(tmp_path)
