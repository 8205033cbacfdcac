"""Nodes for tests of what a container sees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from tests.integration.edged.onenode import GROUP, Node, remove_cgroup


@pytest.fixture
async def node(tmp_path, containerd):
    runtime = CriRuntime(str(containerd.socket), owner=f"edge-{os.urandom(4).hex()}")
    yield Node(tmp_path, runtime)
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()
    for controller in Path("/sys/fs/cgroup").iterdir():
        remove_cgroup(controller / GROUP.lstrip("/"))
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if str(tmp_path) in line:  # a failed test must not leave the machine full of mounts
            subprocess.run(["umount", "-l", line.split()[1]], check=False)  # noqa: ASYNC221
