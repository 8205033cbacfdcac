"""A `Lab`: edged over the real store and a containerd of our own; and a `Node` that is set up test by test."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from tests.fakes.edge import Edge
from tests.integration.edged.lab import Lab, RecordingStore
from tests.integration.edged.onenode import GROUP, Node, remove_cgroup


@pytest.fixture
async def cri(containerd):
    runtime = CriRuntime(str(containerd.socket), owner=f"edge-{os.urandom(4).hex()}")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


@pytest.fixture
async def lab(tmp_path, cri):
    async with RecordingStore(tmp_path / "edge.db") as store:
        yield Lab(tmp_path, time.time, store=store, runtime=cri)
        left = unmounted(tmp_path)
    assert [m for m in left if "/volumes/" in m] == []


@pytest.fixture
async def node(tmp_path, cri):
    yield Node(tmp_path, cri)
    for sandbox in await cri.list_sandboxes():
        await cri.remove_sandbox(sandbox.id)
    for controller in Path("/sys/fs/cgroup").iterdir():
        remove_cgroup(controller / GROUP.lstrip("/"))
    unmounted(tmp_path)


def unmounted(folder):
    """Unmount what is left below `folder`; return its lines: a failed test must not leave the machine full of mounts."""
    table = Path("/proc/self/mounts").read_text().splitlines()
    left = [line for line in table if str(folder) in line]
    for line in left:
        subprocess.run(["umount", "-l", line.split()[1]], check=False)
    return left


@pytest.fixture
async def cri_edge(tmp_path, cri):
    """Edged without a lab's comforts: the test starts it with what it needs beside it."""
    async with RecordingStore(tmp_path / "edge.db") as store:
        yield Edge(tmp_path, time.time, store=store, runtime=cri)
        unmounted(tmp_path)
