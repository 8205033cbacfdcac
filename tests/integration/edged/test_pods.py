"""Edged over the real edge store and both real runtimes: containerd with runc and CNI, and plain processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.edged.process.runtime import ProcessRuntime
from edgecore.metamanager.store import MetaStore
from tests.fakes.edge import Edge
from tests.fakes.pods import config_map, container, pod_object, secret

pytestmark = pytest.mark.timeout(60)

IMAGE = "docker.io/library/busybox:latest"
DELETED = {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": 2}
# A shell as process 1 ignores SIGTERM unless it traps it.
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class RecordingStore(MetaStore):
    """The real store, which also remembers what was reported."""

    def __init__(self, path):
        super().__init__(path)
        self.reports = []

    async def commit(self, commit):
        await super().commit(commit)
        self.reports += commit.reports


@pytest.fixture(params=[pytest.param("cri", marks=pytest.mark.containerd), pytest.param("process")])
async def runtime(request, tmp_path):
    if request.param == "cri":
        daemon = request.getfixturevalue("containerd")
        runtime = CriRuntime(str(daemon.socket), owner=f"edge-{os.urandom(4).hex()}")
    else:
        runtime = ProcessRuntime(tmp_path / "process")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


@pytest.fixture
async def edge(tmp_path, runtime):
    async with RecordingStore(tmp_path / "edge.db") as store:
        edge = Edge(tmp_path, time.time, store=store, runtime=runtime)
        yield edge
        root = str(tmp_path)
        left = [m for m in Path("/proc/self/mounts").read_text().splitlines() if root in m]
        for line in left:  # a failed test must not leave the machine full of mounts
            subprocess.run(["umount", "-l", line.split()[1]], check=False)  # noqa: ASYNC221
    assert [m for m in left if "/volumes/" in m] == []


def shell(script, name="app", **fields):
    return container(name, IMAGE, command=["/bin/sh", "-c", script], **fields)


@contextlib.asynccontextmanager
async def running_pod(edge, *containers, **spec):
    async with edge.running():
        await edge.put("Pod", pod_object(containers=list(containers), **spec))
        yield
        await edge.drop("Pod", "web", "u-1")
        folder = edge.folder / "pods/volumes/u-1"
        await edge.until(lambda: not folder.exists(), 20)


def log(edge, name="app", attempt=0):
    path = edge.folder / f"logs/default_web_u-1/{name}/{attempt}.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split(" ", 3)[3] for line in lines]


async def test_a_pod_runs_to_its_end_and_its_exit_code_is_reported(edge):
    good, bad = shell("exit 0", "good"), shell("exit 7", "bad")
    async with running_pod(edge, good, bad, restartPolicy="Never"):
        await edge.until(lambda: edge.phase() == "Failed", 20)
        first, second = edge.status()["containerStatuses"]
    assert first["state"]["terminated"]["reason"] == "Completed"
    assert second["state"]["terminated"]["exitCode"] == 7
    assert second["state"]["terminated"]["reason"] == "Error"


async def test_init_containers_hand_files_to_the_app_through_a_volume(edge):
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    first = shell("echo from-init > /shared/file", "first", volumeMounts=mounts)
    app = shell("cat /shared/file", volumeMounts=mounts)
    async with running_pod(
        edge,
        app,
        initContainers=[first],
        volumes=[{"name": "shared", "emptyDir": {"medium": "Memory"}}],
        restartPolicy="Never",
    ):
        await edge.until(lambda: edge.phase() == "Succeeded", 20)
        assert log(edge) == ["from-init"]


async def test_environment_and_files_come_from_objects_and_follow_their_updates(edge):
    env = [
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "key"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(KEY)-$(NOPE)"},
    ]
    mounts = [
        {"name": "cfg", "mountPath": "/etc/cfg"},
        {"name": "keys", "mountPath": "/etc/keys"},
        {"name": "cfg", "mountPath": "/etc/pinned", "subPath": "key"},
    ]
    script = (
        "echo $KEY $BOTH; cat /etc/keys/token; "
        "while grep -q old /etc/cfg/key; do sleep 0.1; done; cat /etc/cfg/key /etc/pinned"
    )
    volumes = [
        {"name": "cfg", "configMap": {"name": "cfg"}},
        {"name": "keys", "secret": {"secretName": "s"}},
    ]
    await edge.put("ConfigMap", config_map("cfg", key="old\n"))
    await edge.put("Secret", secret("s", token="hidden\n"))
    app = shell(script, env=env, volumeMounts=mounts)
    async with running_pod(edge, app, volumes=volumes, restartPolicy="Never"):
        await edge.until(lambda: "hidden" in log(edge), 20)
        await edge.put("ConfigMap", config_map("cfg", key="new\n"))
        await edge.until(lambda: edge.phase() == "Succeeded", 20)
        assert log(edge) == ["old old -$(NOPE)", "hidden", "new", "old"]


async def test_a_crashed_container_is_started_again_and_says_why(edge):
    script = "echo broken > /dev/termination-log; exit 3"
    async with running_pod(edge, shell(script)):
        await edge.until(lambda: edge.waiting().get("reason") == "CrashLoopBackOff", 20)
        status = edge.container()
    assert status["restartCount"] == 1
    last = status["lastState"]["terminated"]
    assert (last["exitCode"], last["message"]) == (3, "broken\n")


async def test_a_delete_ends_the_pod_within_its_grace(edge):
    pod = pod_object(containers=[shell(FOREVER)])
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Running", 20)
        begun_s = time.monotonic()
        pod["metadata"] |= DELETED
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.ended() == ["u-1"], 10)
        assert time.monotonic() - begun_s < 6
        assert edge.container()["state"]["terminated"]["exitCode"] == 0
    assert await edge.runtime.list_sandboxes() == []


async def test_a_restarted_agent_adopts_the_same_containers(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(containers=[shell(FOREVER)]))
        await edge.until(lambda: edge.phase() == "Running", 20)
    before, reports = edge.container(), len(edge.store.reports)
    async with edge.running():
        await asyncio.sleep(1.5)
        assert edge.container() == before
        assert len(edge.store.reports) == reports
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 20)


async def test_a_pod_that_lost_its_record_while_the_agent_was_down_is_removed(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(containers=[shell(FOREVER)]))
        await edge.until(lambda: edge.phase() == "Running", 20)
    await edge.drop("Pod", "web", "u-1")
    async with edge.running():
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 20)
    assert await edge.runtime.list_sandboxes() == []


async def test_a_command_that_is_not_there_is_named(edge):
    missing = container("app", IMAGE, command=["/no/such/program"])
    async with running_pod(edge, missing):
        await edge.until(lambda: any(reason == "Failed" for _, reason, _ in edge.events()), 20)
        (message, *_) = [m for _, reason, m in edge.events() if reason == "Failed"]
        assert "/no/such/program" in message
        await edge.until(
            lambda: edge.waiting().get("reason") in ("RunContainerError", "CrashLoopBackOff"), 20
        )
