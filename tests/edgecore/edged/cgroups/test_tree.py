"""Cgroups of pods: names, and the files of both versions of the kernel's interface."""

from __future__ import annotations

import pytest

from edgecore.edged.cgroups.names import pod_path, pod_slice
from edgecore.edged.cgroups.tree import CgroupTree, huge_page_sizes, weight
from edgecore.edged.runtime import ContainerLimits
from tests.fakes.pods import container, make_pod

UID = "0f3a-12"
FULL = {"cpu": "500m", "memory": "64Mi"}


def pod(requests=None, limits=None):
    resources = {"requests": requests or {}, "limits": limits or {}}
    return make_pod(uid=UID, containers=[container(resources=resources)])


@pytest.mark.parametrize(
    ("made", "path", "slice_name"),
    [
        (pod(limits=FULL), "/kubepods/pod0f3a-12", "kubepods-pod0f3a_12.slice"),
        (pod(FULL), "/kubepods/burstable/pod0f3a-12", "kubepods-burstable-pod0f3a_12.slice"),
        (pod(), "/kubepods/besteffort/pod0f3a-12", "kubepods-besteffort-pod0f3a_12.slice"),
    ],
)
def test_a_pods_place_follows_its_class(made, path, slice_name):
    assert pod_path(made, "/") == path
    assert pod_slice(made, "/") == slice_name
    assert pod_path(made, "/edge/a") == f"/edge/a{path}"
    assert pod_slice(made, "/edge-a") == f"edge_a-{slice_name}"


CONTROLLERS = "cpuset cpu io memory hugetlb pids"
V2_FILES = ("cpu.weight", "cpu.max", "memory.max", "pids.max", "cgroup.procs")


class UnifiedTree(CgroupTree):
    """Version 2 on an ordinary file system: what the kernel would put into a new folder is put there first."""

    def __init__(self, mount):
        populate(mount)
        super().__init__(mount)

    def _delegate(self, folder):
        if folder != self._mount:
            folder.mkdir(parents=True, exist_ok=True)
            for part in (*reversed(folder.parents), folder):
                if self._mount in part.parents and not (part / "cgroup.procs").exists():
                    populate(part)
        super()._delegate(folder)
        for child in [*self._folders("/kubepods/burstable/pod1")]:
            child.mkdir(parents=True, exist_ok=True)
            populate(child)


def populate(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(CONTROLLERS)
    (folder / "cgroup.subtree_control").write_text("")
    for name in V2_FILES:
        (folder / name).write_text("")


def test_version_2_gets_weight_quota_memory_and_pids_and_delegates_from_the_top(tmp_path):
    tree = UnifiedTree(tmp_path)
    assert tree.unified
    tree.ensure("/kubepods/burstable/pod1", ContainerLimits(512, 50_000, 100_000, 64 << 20), 100)
    made = tmp_path / "kubepods/burstable/pod1"
    assert {n: (made / n).read_text() for n in V2_FILES[:4]} == {
        "cpu.weight": "20",
        "cpu.max": "50000 100000",
        "memory.max": "67108864",
        "pids.max": "100",
    }
    for folder in (tmp_path, tmp_path / "kubepods", tmp_path / "kubepods/burstable"):
        asked = set((folder / "cgroup.subtree_control").read_text().split())
        assert asked == {"+cpu", "+cpuset", "+memory", "+pids", "+hugetlb", "+io"}
    assert (tmp_path / "kubepods/burstable/cpu.weight").read_text() == "20"
    assert tree.pods("/") == {"1": "kubepods/burstable/pod1"}


def test_the_memory_of_a_group_is_counted_below_its_controller_in_version_1(tmp_path):
    assert CgroupTree(tmp_path).memory_folder("/kubepods") == tmp_path / "memory/kubepods"
    assert UnifiedTree(tmp_path).memory_folder("/kubepods") == tmp_path / "kubepods"


def test_version_2_without_limits_says_max(tmp_path):
    tree = UnifiedTree(tmp_path)
    tree.ensure("/kubepods/burstable/pod1", ContainerLimits(2), 0)
    made = tmp_path / "kubepods/burstable/pod1"
    found = [(made / n).read_text() for n in ("cpu.max", "memory.max", "pids.max")]
    assert found == ["max 100000", "max", "max"]


@pytest.mark.parametrize(("shares", "expected"), [(0, 1), (2, 1), (1024, 39), (262_144, 10_000)])
def test_shares_become_weights(shares, expected):
    assert weight(shares) == expected


def test_a_machine_without_cgroups_is_told_apart(tmp_path):
    (tmp_path / "cpu").mkdir()
    assert CgroupTree(tmp_path).problem("/").endswith("is no cgroup")
    assert not (tmp_path / "cpu/kubepods").exists()
    (tmp_path / "memory").write_text("")
    (tmp_path / "cpu/kubepods").write_text("in the way")
    assert "File exists" in CgroupTree(tmp_path).problem("/")


def test_the_machines_huge_pages_count_if_they_can_be_limited(tmp_path):
    sizes, mount = tmp_path / "sizes", tmp_path / "cgroup"
    (sizes / "hugepages-2048kB").mkdir(parents=True)
    (sizes / "hugepages-1048576kB").mkdir()
    mount.mkdir()
    assert huge_page_sizes(mount, sizes) == ()
    (mount / "hugetlb").mkdir()
    assert huge_page_sizes(mount, sizes) == ("1GB", "2MB")
