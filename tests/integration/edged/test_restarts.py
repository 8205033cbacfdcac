"""Agent, runtime and host restarted: what runs is adopted, what ended is finished, what was lost runs again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from armadillo.containerd import PodNetwork, PrivateContainerd
from armadillo.host import unmount_below
from edgecore.edged.cri import CriRuntime
from edgecore.edged.runtime import ContainerPhase
from tests.fakes.pods import pod_object
from tests.integration.edged.lab import FOREVER, Lab, RecordingStore, deleted, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(180)]


async def running(lab):
    """Names of the containers that run, each as often as it does."""
    boxes = await lab.runtime.list_sandboxes()
    return sorted(c.name for s in boxes for c in s.containers if c.phase is ContainerPhase.RUNNING)


@pytest.mark.parametrize("after_s", [0.02, 0.15, 0.3, 0.5, 0.8])
async def test_an_agent_that_ends_during_a_start_leaves_one_healthy_pod_behind(lab, after_s):
    side = shell(name="side", restartPolicy="Always")
    made = pod_object(containers=[shell(), shell(name="other")], initContainers=[side])
    with contextlib.suppress(TimeoutError):
        async with lab.running():
            await lab.put("Pod", made)
            await lab.until(lambda: False, after_s)
    async with lab.running():
        await lab.until(lab.ready)
        before = lab.status()["containerStatuses"]
        assert await running(lab) == ["app", "other", "side"]
    async with lab.running():
        await lab.quiet(lambda: lab.status()["containerStatuses"], 1.5)
        assert lab.status()["containerStatuses"] == before
        await lab.gone()
    assert await lab.runtime.list_sandboxes() == []


@pytest.mark.parametrize("after_s", [0.05, 0.4, 1.2])
async def test_an_agent_that_ends_during_a_delete_finishes_it_when_it_is_back(lab, after_s):
    made = pod_object(containers=[shell("trap 'sleep 0.5; exit 0' TERM; sleep 1000 & wait")])
    async with lab.running():
        await lab.put("Pod", made)
        await lab.until(lab.ready)
    made["metadata"] |= deleted(5)
    with contextlib.suppress(TimeoutError):
        async with lab.running():
            await lab.put("Pod", made)
            await lab.until(lambda: False, after_s)
    async with lab.running():
        await lab.until(lambda: lab.ended() == ["u-1"])
        await lab.gone()
    assert await lab.runtime.list_sandboxes() == []


async def test_a_pod_whose_record_went_while_the_agent_was_down_is_removed_by_its_uid(lab):
    async with lab.running():
        await lab.put("Pod", pod_object(containers=[shell()]))
        await lab.put("Pod", pod_object("kept", "u-2", [shell()]))
        await lab.until(lambda: lab.ready() and lab.ready("kept"))
    await lab.drop("Pod", "web", "u-1")
    async with lab.running():
        await lab.until(lambda: not (lab.folder / "pods/volumes/u-1").exists())
        boxes = await lab.runtime.list_sandboxes()
        assert [s.pod.uid for s in boxes] == ["u-2"]
        assert lab.of("app", pod="kept")["restartCount"] == 0
        await lab.gone("kept", "u-2")


async def test_restarts_are_counted_on_by_an_agent_that_lost_its_memory(lab):
    async with lab.running():
        await lab.put("Pod", pod_object(containers=[shell("exit 1")]))
        await lab.until(lambda: lab.of("app").get("restartCount", 0) >= 1)
    before = lab.of("app")["restartCount"]
    lab.store = None
    async with RecordingStore(lab.folder / "other.db") as store:
        lab.store = store
        async with lab.running():
            await lab.put("Pod", pod_object(containers=[shell("exit 1")]))
            await lab.until(lambda: lab.of("app").get("restartCount", -1) >= before)
            await lab.gone()


async def test_a_restarted_containerd_costs_no_restart(lab, containerd):
    async with lab.pod(shell()):
        await lab.until(lab.ready)
        before = lab.of("app")
        await asyncio.to_thread(containerd.stop)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(containerd.start)
        await lab.put("Pod", pod_object("other", "u-2", [shell()]))
        await lab.until(lambda: lab.ready("other"))
        assert lab.of("app") == before
        await lab.gone("other", "u-2")


async def test_a_pod_that_is_deleted_ends_though_containerd_is_away_for_a_while(lab, containerd):
    slow = "trap 'echo ending; sleep 1; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    async with lab.pod(shell(slow)) as made:
        await lab.until(lambda: lab.log() == ["up"])
        made["metadata"] |= deleted(30)
        await lab.put("Pod", made)
        await lab.until(lambda: "ending" in lab.log())
        await asyncio.to_thread(containerd.stop)
        await lab.quiet(lambda: (lab.ended(), lab.phase()))
        assert (lab.ended(), lab.phase()) == ([], "Running")  # nobody knows, so nothing is said
        await asyncio.to_thread(containerd.start)
        await lab.until(lambda: lab.ended() == ["u-1"])
        assert lab.phase() == "Succeeded"


@pytest.fixture
async def machine(tmp_path_factory):
    """A containerd that may be treated badly."""
    number = random.randrange(256)
    network = PodNetwork(f"armar{os.getpid()}"[:15], f"10.98.{number}.0/24")
    daemon = PrivateContainerd(tmp_path_factory.mktemp("machine"), network)
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(daemon.ensure_images)
    yield daemon
    await asyncio.to_thread(daemon.purge)


def pull_the_plug(machine):
    """End containerd, its shims and all that runs below them at once, and lose what a boot loses."""
    everyone = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                everyone[int(entry.name)] = (words, parent)
    socket = os.fsencode(machine.socket)
    doomed = {p for p, (words, _) in everyone.items() if b"shim" in words[0] and socket in words}
    while more := {p for p, (_, parent) in everyone.items() if parent in doomed} - doomed:
        doomed |= more
    machine._process.kill()
    machine._process.wait()
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    unmount_below(machine.folder / "state")
    shutil.rmtree(machine.folder / "state")
    return len(doomed)


async def test_after_a_reboot_without_the_cloud_every_pod_runs_again_from_disk_alone(
    tmp_path, machine
):
    runtime = CriRuntime(str(machine.socket), owner="edge-1")
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "a"}}}]
    side = shell(name="side", restartPolicy="Always")
    async with RecordingStore(tmp_path / "edge.db") as store:
        lab = Lab(tmp_path, time.time, store=store, runtime=runtime)
        async with lab.running():
            config = {"metadata": {"name": "cfg", "namespace": "default"}, "data": {"a": "1"}}
            await lab.put("ConfigMap", {"kind": "ConfigMap", **config})
            app = shell(f"echo $A; {FOREVER}", env=env)
            await lab.put("Pod", pod_object(containers=[app], initContainers=[side]))
            await lab.put("Pod", pod_object("failing", "u-2", [shell()], restartPolicy="OnFailure"))
            done = pod_object("done", "u-3", [shell("exit 0")], restartPolicy="Never")
            await lab.put("Pod", done)
            await lab.until(lambda: lab.ready() and lab.ready("failing"))
            await lab.until(lambda: lab.phase("done") == "Succeeded")
    assert await asyncio.to_thread(pull_the_plug, machine) >= 4
    async with RecordingStore(tmp_path / "edge.db") as store:
        lab = Lab(tmp_path, time.time, store=store, runtime=runtime)
        async with lab.running():
            await asyncio.sleep(1)  # the agent may be up before its runtime
            await asyncio.to_thread(machine.start)
            again = ("web", "failing")
            await lab.until(
                lambda: all(lab.of("app", pod=p).get("restartCount") == 1 for p in again)
            )
            await lab.until(lambda: lab.ready() and lab.ready("failing"))
            assert await running(lab) == ["app", "app", "side"]
            last = lab.of("app")["lastState"]["terminated"]
            assert last["exitCode"] in (137, 255)
            assert lab.phase("done") in (None, "Succeeded")
            for name, uid in (("web", "u-1"), ("failing", "u-2"), ("done", "u-3")):
                await lab.gone(name, uid)
    await runtime.close()
