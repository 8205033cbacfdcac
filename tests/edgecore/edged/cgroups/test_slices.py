"""Slices of pods: what systemd is asked for, and how they are found again."""

from __future__ import annotations

import pytest

from edgecore.edged.cgroups.drivers import slice_cgroups
from edgecore.edged.cgroups.slices import NO_LIMIT, SliceTree
from edgecore.edged.cgroups.tree import container_settings
from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.resources import node_limits
from tests.fakes.pods import container, make_pod

POD = "kubepods-burstable-pod0f3a_12.slice"
LIMITS = ContainerLimits(512, 25_500, 100_000, 64 << 20)


class Systemd:
    """systemd's side of the calls, on ordinary folders: a started unit gets its cgroup."""

    def __init__(self, mount, *, unified=True, refuses=""):
        self.mount, self.unified, self.refuses = mount, unified, refuses
        if unified:
            (mount / "cgroup.controllers").write_text("cpu memory pids")
        self.calls = []

    def __call__(self, method, signature, arguments):
        if self.refuses == method:
            raise OSError(f"systemd: {method}: Access denied")
        self.calls.append((method, arguments[0], properties(method, arguments)))
        if method == "StartTransientUnit":
            self.folder(arguments[0]).mkdir(parents=True)
        weight = self.calls[-1][2].get("CPUWeight")
        if weight and self.folder(arguments[0]).exists():
            (self.folder(arguments[0]) / "cpu.weight").write_text(weight)

    def folder(self, name):
        parts = name.removesuffix(".slice").split("-")
        names = ["-".join(parts[: i + 1]) + ".slice" for i in range(len(parts))]
        return (self.mount if self.unified else self.mount / "systemd").joinpath(*names)


def properties(method, arguments):
    """Return the properties of a call, whose count must be that of the words."""
    if method == "StopUnit":
        return {}
    count, words = int(arguments[2]), arguments[3:]
    if method == "StartTransientUnit":
        assert words[-1] == "0"
        words = words[:-1]
    assert len(words) == 3 * count
    return dict(zip(words[::3], words[2::3], strict=True))


def test_a_slice_is_started_with_its_limits_and_its_class_weighed(tmp_path):
    systemd = Systemd(tmp_path)
    tree = SliceTree(tmp_path, systemd)
    tree.ensure(POD, LIMITS, 100)
    (start, name, asked), weighed = systemd.calls
    assert (start, name) == ("StartTransientUnit", POD)
    assert {n: asked[n] for n in list(asked)[-4:]} == {
        "CPUWeight": "20",
        "CPUQuotaPerSecUSec": "260000",  # whole percents, upwards
        "MemoryMax": str(64 << 20),
        "TasksMax": "100",
    }
    assert weighed == ("SetUnitProperties", "kubepods-burstable.slice", {"CPUWeight": "20"})
    assert tree.pods("/") == {"0f3a-12": POD}


def test_a_slice_that_is_there_is_given_its_limits_anew(tmp_path):
    systemd = Systemd(tmp_path)
    tree = SliceTree(tmp_path, systemd)
    tree.ensure(POD, LIMITS, 100)
    systemd.calls.clear()
    tree.ensure(POD, ContainerLimits(2), 0)
    method, name, asked = systemd.calls[0]
    assert (method, name) == ("SetUnitProperties", POD)
    for unlimited in ("CPUQuotaPerSecUSec", "MemoryMax", "TasksMax"):
        assert asked[unlimited] == str(NO_LIMIT)


@pytest.mark.parametrize(("unified", "top"), [(True, "."), (False, "memory")], ids=["v2", "v1"])
def test_the_memory_of_a_slice_is_counted_below_its_controller(tmp_path, unified, top):
    tree = SliceTree(tmp_path, Systemd(tmp_path, unified=unified))
    found = tree.memory_folder("edge-kubepods.slice")
    assert found == tmp_path / top / "edge.slice/edge-kubepods.slice"


def test_version_1_has_names_of_its_own(tmp_path):
    systemd = Systemd(tmp_path, unified=False)
    SliceTree(tmp_path, systemd).ensure("kubepods-podx.slice", LIMITS, 0)
    (_, _, asked), *rest = systemd.calls
    assert (asked["CPUShares"], asked["MemoryLimit"]) == ("512", str(64 << 20))
    assert "CPUWeight" not in asked
    assert rest == []  # a guaranteed pod lies in no class


def test_a_pods_slice_is_stopped_by_its_uid_and_one_that_is_gone_is_well_removed(tmp_path):
    systemd = Systemd(tmp_path)
    cgroups = slice_cgroups("/edge", SliceTree(tmp_path, systemd))
    made = make_pod(uid="0f3a-12", containers=[container()])
    assert cgroups.parent(made) == "edge-kubepods-besteffort-pod0f3a_12.slice"
    cgroups.ensure(made, 0)
    procs = systemd.folder(cgroups.parent(made)) / "cgroup.procs"
    procs.write_text("17\n")
    cgroups.remove("0f3a-12")
    assert systemd.calls[-1][0] != "StopUnit"  # systemd would end what runs in it
    procs.write_text("")
    cgroups.remove("0f3a-12")
    assert systemd.calls[-1][:2] == ("StopUnit", cgroups.parent(made))
    count = len(systemd.calls)
    cgroups.remove("other")
    assert len(systemd.calls) == count


def test_all_pods_together_are_kept_out_of_what_is_reserved(tmp_path):
    systemd = Systemd(tmp_path)
    reserved = ({"memory": "100Mi"}, {"cpu": "500m", "memory": "28Mi"})
    slice_cgroups("/", SliceTree(tmp_path, systemd)).limit_all(node_limits(4, 1 << 30, reserved))
    ((_, name, asked),) = systemd.calls
    assert (name, asked["MemoryMax"]) == ("kubepods.slice", str((1024 - 128) << 20))
    assert asked["CPUWeight"] == "137"  # of 3.5 cores


def test_without_a_reservation_pods_have_all_memory():
    assert node_limits(2, 1 << 30, ({}, {"cpu": "3"})) == ContainerLimits(cpu_shares=2)


def test_what_systemd_refuses_is_told(tmp_path):
    tree = SliceTree(tmp_path, Systemd(tmp_path, refuses="StartTransientUnit"))
    with pytest.raises(OSError, match="StartTransientUnit: Access denied"):
        tree.ensure(POD, LIMITS, 0)


def test_containers_of_version_2_die_as_a_whole_and_do_not_swap(tmp_path):
    assert container_settings(tmp_path) == {}
    (tmp_path / "cgroup.controllers").write_text("memory")
    assert container_settings(tmp_path) == {"memory.oom.group": "1"}
    (tmp_path / "system.slice").mkdir()
    (tmp_path / "system.slice/memory.swap.max").write_text("max")
    assert container_settings(tmp_path) == {"memory.oom.group": "1", "memory.swap.max": "0"}
