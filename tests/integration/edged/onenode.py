"""One agent on the session's containerd, and what tests of a pod's spec ask of it."""

from __future__ import annotations

import contextlib
import os
import time

from tests.fakes.edge import Edge
from tests.fakes.pods import container, pod_object
from tests.integration.edged.lab import RecordingStore

IMAGE = "docker.io/library/busybox:latest"
PATIENCE_S = 45
GROUP = f"/armadillo-test-{os.getpid()}"  # cgroups: other test runs may share the machine


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


def told(edge, reason):
    return [m for _, r, m in edge.events() if r == reason]


async def sandbox_problem(edge, **spec):
    await edge.put("Pod", pod_object(containers=[shell("true")], **spec))
    (message, *_) = await edge.until(lambda: told(edge, "FailedCreatePodSandBox"), PATIENCE_S)
    assert edge.phase() == "Pending"
    return message


def remove_cgroup(folder):
    if folder.is_dir():
        for child in folder.iterdir():
            if child.is_dir():
                remove_cgroup(child)
        folder.rmdir()
