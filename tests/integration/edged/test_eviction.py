"""Pods that are ended for the node's sake, or for their own greed, on real containerd with a small disk."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess

import pytest

from edgecore.edged.eviction.manager import EvictionManager
from edgecore.edged.images.janitor import Janitor
from edgecore.edged.pods.events import EventRecorder, NodeEvents
from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.provider import NodeStats
from tests.fakes.pods import container, pod_object
from tests.fakes.tasks import running_tasks

pytestmark = [pytest.mark.timeout(90), pytest.mark.containerd]
IMAGE = "docker.io/library/busybox:latest"
SCRATCH = [{"name": "scratch", "mountPath": "/scratch"}]


@pytest.fixture
def edge(cri_edge, tmp_path):
    """Its pods' files lie on a disk of 64 MiB, of which half must stay free."""
    folder = tmp_path / "pods"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    cri_edge.settings = dataclasses.replace(
        cri_edge.settings,
        disk_use_interval_s=0.0,
        eviction_hard={"nodefs.available": "50%"},
        eviction_period_s=0.2,
        eviction_pressure_transition_s=0.5,
    )
    yield cri_edge
    subprocess.run(["umount", "-l", folder], check=True)


class NoSweeping(Janitor):
    """The session's images are everybody's: this agent must not remove them."""

    async def remove_unused_images(self):
        return 0


@contextlib.asynccontextmanager
async def watched(edge):
    """Edged with its eviction."""
    settings, runtime = edge.settings, edge.runtime
    collector = Collector(
        runtime, "edge-1", volume_root=edge.folder / "pods/volumes",
        log_root=edge.folder / "logs", disk_use_keep_s=0,
    )  # fmt: skip
    stats = NodeStats(collector, keep_s=0)
    async with edge.running() as edged:
        events = NodeEvents(EventRecorder("edge-1", edge.clock), edge.store, "edge-1")
        sweeper = NoSweeping(settings, runtime, wanted=edged.images_wanted, tell=events.tell)
        manager = EvictionManager(
            settings, runtime, pods=edged.active, readings=stats.snapshot,
            sweeper=sweeper, tell=events.tell,
        )  # fmt: skip
        manager.on_change(edged.admission.know_pressures)
        async with running_tasks(manager.run()):
            yield manager


def pod(name, uid, script, *, limits=None, size_limit=None, requests=None):
    scratch = {"name": "scratch", "emptyDir": {"sizeLimit": size_limit} if size_limit else {}}
    app = container(
        image=IMAGE, command=["/bin/sh", "-c", f"{script}; exec sleep 1000"],
        volumeMounts=SCRATCH, resources={"limits": limits or {}, "requests": requests or {}},
    )  # fmt: skip
    return pod_object(
        name, uid, containers=[app], volumes=[scratch], terminationGracePeriodSeconds=0
    )


def write(mib, where="/scratch/file"):
    return f"dd if=/dev/zero of={where} bs=1048576 count={mib} 2>/dev/null"


async def test_the_greediest_pod_goes_when_the_nodes_disk_runs_short(edge):
    async with watched(edge) as manager:
        await edge.put("Pod", pod("modest", "u-1", write(1), requests={"cpu": "1m"}))
        await edge.until(lambda: edge.phase("modest") == "Running", 30)
        await edge.put("Pod", pod("hog", "u-2", write(40)))
        await edge.until(lambda: edge.phase("hog") == "Failed", 30)
        status = edge.status("hog")
        assert status["reason"] == "Evicted"
        assert status["message"].startswith(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 32Mi, available: "
        )
        assert next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
        assert edge.phase("modest") == "Running"
        said = [(kind, reason, text) for kind, reason, text in edge.events()]
        assert (
            "Warning",
            "EvictionThresholdMet",
            "Attempting to reclaim ephemeral-storage",
        ) in said
        assert ("Warning", "Evicted", status["message"]) in said
        # Its files stay until it is deleted, so the disk is short still: nobody new is taken.
        assert manager.conditions == ("DiskPressure",)
        await edge.put("Pod", pod("late", "u-3", "true"))
        await edge.until(lambda: edge.phase("late") == "Failed", 30)
        assert edge.status("late")["message"] == (
            "Pod was rejected: The node had condition: [DiskPressure]. "
        )
        await edge.drop("Pod", "hog", "u-2")
        await edge.until(lambda: manager.conditions == (), 30)
        await edge.put("Pod", pod("next", "u-4", "true"))
        await edge.until(lambda: edge.phase("next") == "Running", 30)
        for name, uid in (("modest", "u-1"), ("late", "u-3"), ("next", "u-4")):
            await edge.drop("Pod", name, uid)
        await edge.until(lambda: not any((edge.folder / "pods/volumes").iterdir()), 30)


async def test_a_pod_that_holds_more_than_it_may_goes_though_there_is_room(edge):
    async with watched(edge) as manager:
        await edge.put("Pod", pod("volume", "u-1", write(3), size_limit="2Mi"))
        babble = f"{write(3, '/dev/stdout')} | od -v"
        await edge.put("Pod", pod("logs", "u-2", babble, limits={"ephemeral-storage": "2Mi"}))
        await edge.put("Pod", pod("good", "u-3", write(1), size_limit="2Mi"))
        await edge.until(lambda: edge.phase("volume") == "Failed", 30)
        assert edge.status("volume")["message"] == (
            'Usage of EmptyDir volume "scratch" exceeds the limit "2Mi". '
        )
        await edge.until(lambda: edge.phase("logs") == "Failed", 30)
        assert edge.status("logs")["reason"] == "Evicted"
        assert edge.status("logs")["message"] == (
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
        )
        assert edge.phase("good") == "Running"
        assert manager.conditions == ()
        for name, uid in (("volume", "u-1"), ("logs", "u-2"), ("good", "u-3")):
            await edge.drop("Pod", name, uid)
        await edge.until(lambda: not any((edge.folder / "pods/volumes").iterdir()), 30)
