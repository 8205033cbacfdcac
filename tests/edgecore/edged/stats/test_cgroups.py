from __future__ import annotations

import pytest

from edgecore.edged.stats.cgroups import CgroupReader, read_memory


@pytest.fixture
def tree(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return CgroupReader(tmp_path / "cgroup", tmp_path / "proc")

    return write


V1 = {
    "proc__7__cgroup": "5:memory:/kube/c1\n4:cpu,cpuacct:/kube/c1\n3:pids:/kube/c1\n",
    "cgroup__memory__kube__c1__memory.usage_in_bytes": "1000\n",
    "cgroup__memory__kube__c1__memory.stat": (
        "total_rss 300\ntotal_cache 600\ntotal_inactive_file 250\ntotal_swap 5\n"
        "total_pgfault 9\ntotal_pgmajfault 2\nhierarchical_memory_limit 2000\n"
    ),
    "cgroup__cpuacct__kube__c1__cpuacct.usage": "123456\n",
    "cgroup__cpu__kube__c1__cpu.stat": "nr_periods 10\nnr_throttled 3\nthrottled_time 77\n",
    "cgroup__pids__kube__c1__pids.current": "4\n",
}
V2 = {
    "proc__7__cgroup": "0::/kube/c1\n",
    "cgroup__kube__c1__memory.current": "1000\n",
    "cgroup__kube__c1__memory.stat": (
        "anon 300\nfile 600\ninactive_file 250\npgfault 9\npgmajfault 2\n"
    ),
    "cgroup__kube__c1__memory.max": "2000\n",
    "cgroup__kube__c1__memory.swap.current": "5\n",
    "cgroup__kube__c1__cpu.stat": (
        "usage_usec 123\nnr_periods 10\nnr_throttled 3\nthrottled_usec 77\n"
    ),
    "cgroup__kube__c1__pids.current": "4\n",
}


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_both_versions_of_cgroups_give_the_same_reading(tree, files):
    sample = tree(**files).read(7)
    assert sample.path == "/kube/c1"
    assert sample.process_count == 4
    memory = sample.memory
    assert (memory.usage_bytes, memory.working_set_bytes) == (1000, 750)
    assert (memory.rss_bytes, memory.cache_bytes, memory.swap_bytes) == (300, 600, 5)
    assert (memory.limit_bytes, memory.available_bytes) == (2000, 1250)
    assert (memory.page_faults, memory.major_page_faults) == (9, 2)
    assert (sample.cpu.periods, sample.cpu.throttled_periods) == (10, 3)
    assert sample.cpu.usage_ns in (123456, 123000)


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_the_memory_of_a_group_is_read_without_a_process_of_it(tree, tmp_path, files):
    memory = tree(**files).read(7).memory
    (folder,) = [f.parent for f in tmp_path.rglob("memory.stat")]
    assert read_memory(folder) == memory
    assert read_memory(folder / "none") is None


def test_a_huge_limit_is_none(tree):
    files = dict(V1)
    stat = "cgroup__memory__kube__c1__memory.stat"
    files[stat] = files[stat].replace("2000", "9223372036854771712")
    assert tree(**files).read(7).memory.limit_bytes is None
    v2 = V2 | {"cgroup__kube__c1__memory.max": "max\n"}
    assert tree(**v2).read(7) is not None


@pytest.mark.parametrize("text", ["0::/\n", "5:memory:/\n4:cpu:/\n"])
def test_a_process_in_the_root_cgroup_has_no_reading_of_its_own(tree, text):
    assert tree(proc__7__cgroup=text).read(7) is None


def test_a_process_that_has_gone_has_no_reading(tree):
    assert tree().read(7) is None
    assert tree(proc__7__cgroup=V2["proc__7__cgroup"]).read(7) is None
