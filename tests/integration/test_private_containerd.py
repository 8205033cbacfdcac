"""PrivateContainerd with real processes: taking over, and leaving nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from armadillo.containerd import ContainerdError, PodNetwork, PrivateContainerd
from edgecore.edged.cri import CriRuntime
from edgecore.edged.runtime import ContainerConfig, PodIdentity, SandboxConfig

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(60)]


@pytest.fixture
def second(containerd, tmp_path):
    """Another private containerd beside the session's; `containerd` is asked for only for its skip."""
    network = PodNetwork(f"armab{os.getpid()}"[:15], "10.96.201.0/24")
    daemon = PrivateContainerd(tmp_path / "ctd", network)
    yield daemon
    daemon.purge()


async def run_pod(daemon, folder):
    runtime = CriRuntime(str(daemon.socket), owner="x")
    ports = [("TCP", 80, 49999, "127.0.0.1")]
    pod = SandboxConfig(
        PodIdentity("default", "web", "uid"), 0, "web", str(folder), {}, {}, port_mappings=ports
    )
    sandbox = await runtime.run_sandbox(pod)
    config = ContainerConfig("main", 0, "busybox", ["sleep", "300"], log_path="0.log")
    container = await runtime.create_container(sandbox, config, pod)
    await runtime.start_container(container)
    states = await runtime.list_sandboxes()
    await runtime.close()
    return states


async def test_purge_of_a_running_pod_leaves_nothing_on_the_machine(second, tmp_path):
    second.start()
    second.ensure_images()
    (sandbox,) = await run_pod(second, tmp_path / "logs")
    second.purge()
    assert list(Path("/var/lib/cni/results").glob(f"*{sandbox.id}*")) == []
    assert list(Path("/sys/fs/cgroup").glob(f"**/k8s.io/{sandbox.id}")) == []
    assert str(second.folder) not in Path("/proc/self/mounts").read_text()
    assert not Path("/sys/class/net", second.network.bridge).exists()
    assert second.network.bridge not in packet_rules()
    assert processes_naming(str(second.folder)) == []


async def test_a_containerd_that_outlived_its_starter_is_replaced_and_pods_go_on(second, tmp_path):
    first = second.start()
    assert second.ensure_images() != []
    before = await run_pod(second, tmp_path / "logs")
    again = PrivateContainerd(second.folder, second.network)  # as after a SIGKILL of `armadillo up`
    process = again.start()
    assert first.wait(5) == 0
    assert process.pid != first.pid
    assert again.ensure_images() == []  # a second run does not repeat finished work
    runtime = CriRuntime(str(again.socket), owner="x")
    assert await runtime.list_sandboxes() == before
    await runtime.close()
    again.stop()


def test_a_configuration_that_containerd_refuses_names_its_log(second, tmp_path):
    second.folder.mkdir()
    (second.folder / "root").write_text("a file where a folder must be")
    with pytest.raises(ContainerdError, match=r"containerd ended with 1, see .*containerd\.log"):
        second.start()
    (second.folder / "root").unlink()


def packet_rules():
    listing = subprocess.run(["iptables", "-t", "nat", "-S"], capture_output=True, text=True)
    return listing.stdout


def processes_naming(text):
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in file.read_bytes():
                found.append(file.parent.name)
        except OSError:
            continue
    return found
