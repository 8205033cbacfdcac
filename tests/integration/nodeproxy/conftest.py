"""A rig whose node runs pods in a real containerd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from tests.fakes.nodeproxy import Rig


@pytest.fixture
async def runtime(containerd):
    runtime = CriRuntime(str(containerd.socket), owner=f"edge-{os.urandom(4).hex()}")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


@pytest.fixture
def rig(tmp_path, runtime):
    yield Rig(tmp_path, runtime)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if str(tmp_path) in line:  # pods are left running, and their volumes with them
            subprocess.run(["umount", "-l", line.split()[1]], check=False)
