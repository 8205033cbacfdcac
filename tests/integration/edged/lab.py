"""One edged over the real edge store and a real containerd, with what tests of pods' lives ask of it."""

from __future__ import annotations

import asyncio
import contextlib

from edgecore.metamanager.store import MetaStore
from tests.fakes.edge import Edge
from tests.fakes.pods import container, pod_object

IMAGE = "docker.io/library/busybox:latest"
# A shell as process 1 ignores SIGTERM unless it traps it.
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
LONG_S = 40.0  # the machine may be busy with other tests


def shell(script=FOREVER, name="app", **fields):
    return container(name, IMAGE, command=["/bin/sh", "-c", script], **fields)


def deleted(grace_s):
    return {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": grace_s}


class RecordingStore(MetaStore):
    """The real store, which also remembers what was reported."""

    def __init__(self, path):
        super().__init__(path)
        self.reports = []
        self.watch = lambda reports: None  # sees each report before anybody else may act on it

    async def commit(self, commit):
        self.watch(commit.reports)
        await super().commit(commit)
        self.reports += commit.reports


class Lab(Edge):
    """An Edge whose pods are real."""

    ahead_s = 0.0

    def __init__(self, folder, clock, **parts):
        super().__init__(folder, lambda: clock() + self.ahead_s, **parts)

    async def until(self, condition, timeout_s=LONG_S):
        return await super().until(condition, timeout_s)

    @contextlib.asynccontextmanager
    async def pod(self, *containers, name="web", uid="u-1", metadata=None, **spec):
        """Edged with one pod; afterwards it is dropped, and gone."""
        async with self.running():
            made = pod_object(name, uid, list(containers), metadata=metadata, **spec)
            await self.put("Pod", made)
            yield made
            await self.gone(name, uid)

    async def gone(self, name="web", uid="u-1"):
        await self.drop("Pod", name, uid)
        folder = self.folder / f"pods/volumes/{uid}"
        await self.until(lambda: not folder.exists())

    async def change(self, made, **spec):
        """The pod's record again, with another spec."""
        made["spec"].update(spec)
        await self.put("Pod", made)

    async def skip(self, made, seconds):
        """Set the agent's clock ahead, and have it look at the pod: no test waits for a back-off."""
        self.ahead_s += seconds
        made["metadata"].setdefault("annotations", {})["skipped"] = str(self.ahead_s)
        await self.put("Pod", made)

    async def delete(self, made, grace_s):
        """Ask for the pod's end and wait until it has ended."""
        made["metadata"] |= deleted(grace_s)
        await self.put("Pod", made)
        uid = made["metadata"]["uid"]
        await self.until(lambda: uid in self.ended(made["metadata"]["name"]))

    def log(self, name="app", attempt=0, pod="web", uid="u-1"):
        path = self.folder / f"logs/default_{pod}_{uid}/{name}/{attempt}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(" ", 3)[3] for line in lines]

    def of(self, name, kind="containerStatuses", pod="web"):
        """One container's status, {} before the first."""
        found = [s for s in self.status(pod).get(kind, ()) if s["name"] == name]
        return found[0] if found else {}

    def state(self, name="app", kind="containerStatuses"):
        return self.of(name, kind).get("state", {})

    def condition(self, kind, pod="web"):
        found = [c for c in self.status(pod).get("conditions", ()) if c["type"] == kind]
        return found[0] if found else {}

    def ready(self, pod="web"):
        return self.condition("Ready", pod).get("status") == "True"

    def reasons(self):
        return [reason for _, reason, _ in self.events()]

    async def quiet(self, condition, seconds=2.5):
        """Nothing that `condition` watches changes for a while."""
        before = condition()
        async with asyncio.timeout(seconds + LONG_S):
            for _ in range(int(seconds / 0.1)):
                await asyncio.sleep(0.1)
                assert condition() == before
