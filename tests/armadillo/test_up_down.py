"""What `armadillo down` ends, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from armadillo.up.sandboxes import end_process_pods
from armadillo.up.state import open_state

pytestmark = pytest.mark.timeout(20)
DEAF = "import signal; signal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\nwhile True: signal.pause()"


def write_started(folder, pid, boot=None):
    """Write what the process runtime writes when a container has started."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    folder.mkdir(parents=True)
    (folder / "started").write_text(f"boot_id {boot}\npid {pid}\nticks {ticks}\n")


@pytest.fixture
def deaf():
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF], start_new_session=True, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    yield process
    if process.poll() is None:
        process.kill()
    process.wait(5)
    process.stdout.close()


def test_containers_of_the_process_runtime_end_and_are_forgotten(tmp_path, deaf):
    layout = open_state(tmp_path)
    containers = layout.node("edge-1").pods / "containers"
    write_started(containers / "c1", deaf.pid)
    assert end_process_pods(layout, grace_s=0.2) == 1
    assert deaf.wait(5) == -9
    assert not containers.exists()


def test_a_process_of_another_boot_is_left_alone(tmp_path):
    layout = open_state(tmp_path)
    write_started(layout.node("edge-1").pods / "containers" / "c1", os.getpid(), boot="another")
    assert end_process_pods(layout) == 0
