"""Cgroups of pods go with `armadillo down`, in every hierarchy."""

from __future__ import annotations

from armadillo.up.cgroups import pods_of, remove_pod_cgroups
from armadillo.up.state import StateLayout


def test_the_cgroups_of_these_pods_go_and_all_others_stay(tmp_path):
    mine = [
        "kubepods/podu-1/container",
        "cpu/kubepods/besteffort/podu-1/container",
        "unified/kubepods/burstable/podu-2",
    ]
    theirs = ["cpu/kubepods/podu-3", "cpu/kubepods/besteffort/podu-10", "cpu/system/podu-1"]
    for path in (*mine, *theirs):
        (tmp_path / path).mkdir(parents=True)
    remove_pod_cgroups(["u-1", "u-2", "gone"], tmp_path)
    left = {str(folder.relative_to(tmp_path)) for folder in tmp_path.rglob("pod*")}
    assert left == set(theirs)
    remove_pod_cgroups(["u-1"], tmp_path / "nowhere")


def test_the_pods_are_those_with_files_on_any_node(tmp_path):
    for node, uid in (("edge-1", "u-1"), ("edge-2", "u-2")):
        (tmp_path / "nodes" / node / "pods" / "volumes" / uid).mkdir(parents=True)
    assert pods_of(StateLayout(tmp_path)) == {"u-1", "u-2"}
