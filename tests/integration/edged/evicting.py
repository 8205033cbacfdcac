"""Edged with its eviction over a real containerd, and pods that take what the node has little of."""

from __future__ import annotations

import contextlib
import time

from edgecore.edged.eviction.manager import EvictionManager
from edgecore.edged.images.janitor import Janitor
from edgecore.edged.pods.events import EventRecorder, NodeEvents
from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.provider import NodeStats
from tests.fakes.pods import container, pod_object
from tests.fakes.tasks import running_tasks

IMAGE = "docker.io/library/busybox:latest"
STAY = "exec sleep 1000"  # and does not hear SIGTERM
LISTEN = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
SCRATCH = [{"name": "scratch", "mountPath": "/scratch"}]


class NoSweeping(Janitor):
    """The session's images are everybody's: this agent must not remove them."""

    async def remove_unused_images(self):
        return 0


@contextlib.asynccontextmanager
async def watched(edge, janitor=NoSweeping, clock=time.time):
    """Edged with its eviction, which goes by `clock`."""
    settings, runtime = edge.settings, edge.runtime
    collector = Collector(
        runtime, "edge-1", volume_root=edge.folder / "pods/volumes",
        log_root=edge.folder / "logs", disk_use_keep_s=0,
    )  # fmt: skip
    stats = NodeStats(collector, keep_s=0)
    async with edge.running() as edged:
        events = NodeEvents(EventRecorder("edge-1", edge.clock), edge.store, "edge-1")
        sweeper = janitor(settings, runtime, wanted=edged.images_wanted, tell=events.tell)
        manager = EvictionManager(
            settings, runtime, pods=edged.active, readings=stats.snapshot,
            sweeper=sweeper, tell=events.tell, pods_memory=edged.memory_of_pods, clock=clock,
        )  # fmt: skip
        manager.on_change(edged.admission.know_pressures)
        async with running_tasks(manager.run()):
            yield manager


async def gone(edge, **pods):
    """Drop the pods, name=uid, and wait until nothing is left of them."""
    for name, uid in pods.items():
        await edge.drop("Pod", name, uid)
    await edge.until(lambda: not any((edge.folder / "pods/volumes").iterdir()), 30)


def pod(
    name, uid, script, *, limits=None, size_limit=None, requests=None, medium="", wait=STAY, **spec
):
    empty = {"sizeLimit": size_limit} if size_limit else {}
    scratch = {"name": "scratch", "emptyDir": {"medium": medium, **empty}}
    app = container(
        image=IMAGE, command=["/bin/sh", "-c", f"{script}; echo ready; {wait}"],
        volumeMounts=SCRATCH, resources={"limits": limits or {}, "requests": requests or {}},
    )  # fmt: skip
    return pod_object(
        name, uid, containers=[app], volumes=[scratch], terminationGracePeriodSeconds=0, **spec
    )


def write(mib, where="/scratch/file"):
    return f"dd if=/dev/zero of={where} bs=1048576 count={mib} 2>/dev/null"


def evicted(edge):
    """The names of the pods that were told as evicted, in that order."""
    bodies = [r.key.name for r in edge.store.reports if r.key.kind == "Pod"]
    names = dict.fromkeys(n for n in bodies if edge.status(n).get("reason") == "Evicted")
    ended = {n: first_told(edge, n) for n in names}
    return sorted(names, key=ended.get)


def first_told(edge, name):
    for number, report in enumerate(edge.store.reports):
        if report.key.kind == "Pod" and report.key.name == name and b'"Evicted"' in report.body:
            return number
    return len(edge.store.reports)
