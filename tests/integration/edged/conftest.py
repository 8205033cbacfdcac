"""An Edged on the session's containerd over the real store, for tests that need cgroups, images or mounts."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.metamanager.store import MetaStore
from tests.fakes.edge import Edge

IMAGE = "docker.io/library/busybox:latest"


class RecordingStore(MetaStore):
    """The real store, which also remembers what was reported."""

    def __init__(self, path):
        super().__init__(path)
        self.reports = []

    async def commit(self, commit):
        await super().commit(commit)
        self.reports += commit.reports


@pytest.fixture
async def cri(containerd):
    """containerd, as one more agent sees it; nothing of this agent is left afterwards."""
    runtime = CriRuntime(str(containerd.socket), owner=f"edge-{os.urandom(4).hex()}")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


@pytest.fixture
async def cri_edge(tmp_path, cri):
    async with RecordingStore(tmp_path / "edge.db") as store:
        yield Edge(tmp_path, time.time, store=store, runtime=cri)
        root = str(tmp_path)
        left = [m for m in Path("/proc/self/mounts").read_text().splitlines() if root in m]
        for line in left:  # a failed test must not leave the machine full of mounts
            subprocess.run(["umount", "-l", line.split()[1]], check=False)  # noqa: ASYNC221
