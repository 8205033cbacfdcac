"""`armadillo up` stopped, killed and started again on the same state."""

from __future__ import annotations

import re
import signal

import pytest

from armadillo.up.processes import read_pid_file
from tests.e2e.cluster import Kubectl, RunningUp, pod, wait_until


@pytest.fixture(scope="module")
def own(runtime, tmp_path_factory):
    """An `armadillo up` of this module's own, for it is stopped and killed."""
    running = RunningUp(tmp_path_factory.mktemp("own") / "state", "--runtime", runtime)
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture(scope="module")
def own_kubectl(own, tmp_path_factory):
    return Kubectl(own.state / "kubeconfig", tmp_path_factory.mktemp("home"))


def test_it_says_what_to_try(own):
    text = own.output.read_text()
    assert f"kubeconfig: {own.state}/kubeconfig" in text
    assert len(re.findall(r"^  (?:kubectl|export) ", text, re.MULTILINE)) == 5


def test_ctrl_c_stops_within_10_s_and_the_next_start_adopts_the_pods(own, own_kubectl):
    own_kubectl.apply(pod("stays", "trap 'exit 0' TERM; while :; do sleep 0.3; done"))
    wait_until("Running", lambda: own_kubectl.pod_phase("stays") == "Running")
    before = own_kubectl.container("stays")
    assert own.stop() == 0
    assert "1 pod(s) keep running" in own.output.read_text()
    ready_s = own.start()
    assert (
        ready_s < 15.0
    )  # the figure itself is benchmarks/memory.py's; this only catches a timeout
    assert own_kubectl.container("stays")["containerID"] == before["containerID"]
    assert own_kubectl.container("stays")["restartCount"] == before["restartCount"]


def test_a_killed_up_leaves_nothing_that_the_next_start_does_not_find(own, own_kubectl):
    own.process.send_signal(signal.SIGKILL)
    own.process.wait(5)
    left = read_pid_file(own.state / "run" / "kubecore.pid")
    own.start()
    assert left is not None
    assert "ended what the last run left" in own.output.read_text()
    assert read_pid_file(own.state / "run" / "kubecore.pid") not in (None, left)
    assert own_kubectl.node_ready("edge-1") == "True"


def test_a_daemon_that_is_killed_is_started_again_and_said(own, own_kubectl):
    import os

    pid = read_pid_file(own.state / "run" / "cloudcore.pid")
    os.kill(pid, signal.SIGKILL)
    wait_until(
        "cloudcore is another process",
        lambda: read_pid_file(own.state / "run" / "cloudcore.pid") not in (None, pid),
    )
    assert "cloudcore was ended by signal 9" in own.output.read_text()
    wait_until("Ready", lambda: own_kubectl.node_ready("edge-1") == "True")
