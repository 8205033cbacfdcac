"""A `Lab`: edged over the real store and a containerd of our own."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from tests.integration.edged.lab import Lab, RecordingStore


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
        root = str(tmp_path)
        left = [m for m in Path("/proc/self/mounts").read_text().splitlines() if root in m]
        for line in left:  # a failed test must not leave the machine full of mounts
            subprocess.run(["umount", "-l", line.split()[1]], check=False)  # noqa: ASYNC221
    assert [m for m in left if "/volumes/" in m] == []
