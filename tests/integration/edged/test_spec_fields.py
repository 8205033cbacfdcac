"""What a container itself sees of its pod's spec, on a real containerd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.metamanager.store import MetaStore
from tests.fakes.edge import Edge
from tests.fakes.pods import container, pod_object

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]

IMAGE = "docker.io/library/busybox:latest"
PATIENCE_S = 45
GROUP = f"/armadillo-test-{os.getpid()}"


class RecordingStore(MetaStore):
    """The real store, which also remembers what was reported."""

    def __init__(self, path):
        super().__init__(path)
        self.reports = []

    async def commit(self, commit):
        await super().commit(commit)
        self.reports += commit.reports


class Node:
    """One agent on the shared containerd; a pod's life is one `run`."""

    def __init__(self, folder, runtime):
        self.folder, self.runtime = folder, runtime
        self.edge = None

    @contextlib.asynccontextmanager
    async def with_settings(self, **settings):
        async with RecordingStore(self.folder / "edge.db") as store:
            chosen = {"cgroup_root": GROUP, **settings}
            self.edge = Edge(
                self.folder, time.time, store=store, runtime=self.runtime, settings=chosen
            )
            async with self.edge.running():
                yield self.edge
                await self.edge.drop("Pod", "web", "u-1")
                folder = self.edge.folder / "pods/volumes/u-1"
                await self.edge.until(lambda: not folder.exists(), PATIENCE_S)

    async def said(self, script, *, metadata=None, settings=None, app=None, **spec):
        """Run `script` to its end in a container of a pod with `spec`; return its lines."""
        async with self.with_settings(**(settings or {})) as edge:
            made = shell(script, **(app or {}))
            spec = {"containers": [made], "restartPolicy": "Never", **spec}
            await edge.put("Pod", pod_object(metadata=metadata, **spec))
            await edge.until(lambda: edge.phase() in ("Succeeded", "Failed"), PATIENCE_S)
            assert edge.phase() == "Succeeded", edge.status()
            return log(edge)


def shell(script, name="app", **fields):
    return container(name, IMAGE, command=["/bin/sh", "-c", script], **fields)


def log(edge, name="app", attempt=0):
    path = edge.folder / f"logs/default_web_u-1/{name}/{attempt}.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split(" ", 3)[3] for line in lines]


def remove_cgroup(folder):
    if folder.is_dir():
        for child in folder.iterdir():
            if child.is_dir():
                remove_cgroup(child)
        folder.rmdir()


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


async def test_a_process_has_the_users_groups_and_rights_of_both_security_contexts(node):
    said = await node.said(
        "id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status; "
        """awk '$2 == "/" {print substr($4, 1, 2)}' /proc/mounts""",
        securityContext={
            "runAsUser": 1000,
            "runAsGroup": 3000,
            "fsGroup": 2000,
            "supplementalGroups": [4000],
            "runAsNonRoot": True,
        },
        app={
            "securityContext": {
                "runAsUser": 1001,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        },
    )
    assert said == [
        "1001",
        "3000",
        "3000 2000 4000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "ro",
    ]


async def test_without_a_profile_nothing_is_filtered_and_added_capabilities_are_there(node):
    said = await node.said(
        "grep -E 'CapEff|Seccomp:' /proc/self/status",
        app={"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
    )
    assert said == ["CapEff:\t0000000000001000", "Seccomp:\t0"]


async def test_a_container_that_must_not_be_root_waits_with_kubelets_words(node):
    async with node.with_settings() as edge:
        app = shell("id -u", securityContext={"runAsNonRoot": True})
        await edge.put("Pod", pod_object(containers=[app]))
        waiting = await edge.until(
            lambda: edge.waiting().get("message") and edge.waiting(), PATIENCE_S
        )
    assert waiting == {
        "reason": "CreateContainerConfigError",
        "message": "container has runAsNonRoot and image will run as root "
        '(pod: "web_default(u-1)", container: app)',
    }
