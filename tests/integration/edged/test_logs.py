"""Rotation of a real container's log: no line is lost while containerd opens a new file."""

from __future__ import annotations

import dataclasses
import gzip
import os
import time

import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.edged.logs.rotation import rotated
from edgecore.edged.logs.rotator import LogRotator
from edgecore.edged.process.runtime import ProcessRuntime
from tests.fakes.edge import Edge
from tests.fakes.pods import container, pod_object
from tests.fakes.tasks import running_tasks
from tests.integration.edged.lab import RecordingStore

pytestmark = pytest.mark.timeout(90)
IMAGE = "docker.io/library/busybox:latest"
COUNT = "n=0; while [ $n -lt 3000 ]; do echo line-$n; n=$((n+1)); done; exec sleep 1000"


@pytest.fixture(params=[pytest.param("cri", marks=pytest.mark.containerd), pytest.param("process")])
async def edge(request, tmp_path):
    if request.param == "cri":
        daemon = request.getfixturevalue("containerd")
        runtime = CriRuntime(str(daemon.socket), owner=f"edge-{os.urandom(4).hex()}")
    else:
        runtime = ProcessRuntime(tmp_path / "process")
    async with RecordingStore(tmp_path / "edge.db") as store:
        yield Edge(tmp_path, time.time, store=store, runtime=runtime)
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


async def test_a_log_is_rotated_without_losing_a_line_and_goes_with_its_pod(edge):
    edge.settings = dataclasses.replace(
        edge.settings,
        container_log_max_size="16Ki",
        container_log_max_files=100,
        container_log_period_s=0.02,
        container_log_links=str(edge.folder / "links"),
    )
    folder = edge.folder / "logs/default_web_u-1"
    log = folder / "app/0.log"

    def lines():
        files = [*rotated(log), log] if log.exists() else []
        whole = b"".join(
            gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files
        )
        return [line.split(b" ", 3)[3] for line in whole.splitlines()]

    app = container(image=IMAGE, command=["/bin/sh", "-c", COUNT])
    async with edge.running():
        rotator = LogRotator(edge.settings, edge.runtime)
        async with running_tasks(rotator.run()):
            made = pod_object(containers=[app], terminationGracePeriodSeconds=0)
            await edge.put("Pod", made)
            await edge.until(
                lambda: (
                    (log.exists() and b"line-2999" in log.read_bytes())
                    or (rotated(log) and b"line-2999" in rotated(log)[-1].read_bytes())
                ),
                60,
            )
            await edge.until(lambda: rotated(log) and log.exists(), 30)
        assert lines() == [b"line-%d" % n for n in range(3000)]
        (link,) = (edge.folder / "links").iterdir()
        assert link.name.startswith("web_default_app-")
        assert link.resolve() == log
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not folder.exists(), 30)
        await rotator.look()
        assert list((edge.folder / "links").iterdir()) == []


async def test_a_container_that_babbles_has_only_so_many_files_of_so_much(edge):
    edge.settings = dataclasses.replace(
        edge.settings,
        container_log_max_size="40Ki",
        container_log_max_files=3,
        container_log_period_s=0.05,
    )
    log = edge.folder / "logs/default_web_u-1/app/0.log"
    babble = "while :; do seq 1 1000; sleep 0.1; done"
    app = container(image=IMAGE, command=["/bin/sh", "-c", babble])
    seen: dict[
        str, None
    ] = {}  # names of files that were put aside, also those that have gone since

    def rotated_often():
        files = rotated(log)
        assert (
            len(files) <= 3
        )  # with the one in use never more than a fourth, while one is put aside
        seen.update(dict.fromkeys(f.name.removesuffix(".gz") for f in files))
        return len(seen) >= 4

    async with edge.running():
        async with running_tasks(LogRotator(edge.settings, edge.runtime).run()):
            await edge.put("Pod", pod_object(containers=[app], terminationGracePeriodSeconds=0))
            await edge.until(rotated_often, 60)
            await edge.until(lambda: len(rotated(log)) == 2, 30)
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not log.parent.parent.exists(), 30)
