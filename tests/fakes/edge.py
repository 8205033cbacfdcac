"""An Edged over a store and a runtime, with what tests ask of it: run for a while, wait until, read reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal

from edgecore.edged.pods.manager import Edged
from edgecore.settings import PodSettings
from synccore.messages import Op
from tests.fakes.pods import drop, put
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import MemoryStore


class Edge:
    def __init__(self, folder, clock, *, store=None, runtime=None, uplink=None, settings=None):
        self.folder, self.clock, self.uplink = folder, clock, uplink
        self.store = store or MemoryStore()
        self.runtime = runtime or FakeRuntime(clock, "busybox:1")
        places = {
            "root_dir": str(folder / "pods"),
            "log_dir": str(folder / "logs"),
            "cgroup_root": "none",  # no pod of a fake runtime belongs into this machine's cgroups
        }
        self.settings = PodSettings(**(places | (settings or {})))
        self.providers = None  # of credentials for registries
        self.allocatable = {"cpu": Decimal(2), "memory": Decimal(2**30)}

    @contextlib.asynccontextmanager
    async def running(self):
        """Edged, from enter to SIGTERM. Starting it twice is a restart of the agent."""
        edged = Edged(
            self.settings,
            node_name="edge-1",
            store=self.store,
            runtime=self.runtime,
            clock=self.clock,
            address=lambda: "192.0.2.7",
            allocatable=self.allocatable,
            uplink=self.uplink,
            providers=self.providers,
        )
        async with edged:
            task = asyncio.create_task(edged.run())
            try:
                yield edged
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def put(self, kind, obj):
        await put(self.store, kind, obj)

    async def drop(self, kind, name, uid=""):
        await drop(self.store, kind, name, uid)

    async def until(self, condition, timeout_s=4.0):
        """Wait until `condition()` is true; its result is returned."""
        async with asyncio.timeout(timeout_s):
            while not (found := condition()):
                await asyncio.sleep(0.005)
        return found

    def status(self, name="web"):
        """The newest status reported of a pod, {} before the first."""
        for report in reversed(self.store.reports):
            if report.key == ("Pod", "default", name) and report.op is Op.UPSERT:
                return json.loads(report.body)["status"]
        return {}

    def phase(self, name="web"):
        return self.status(name).get("phase")

    def container(self, name="web", index=0):
        statuses = self.status(name).get("containerStatuses")
        return statuses[index] if statuses else {}

    def waiting(self, name="web", index=0):
        return self.container(name, index).get("state", {}).get("waiting", {})

    def ended(self, name="web"):
        key = ("Pod", "default", name)
        return [r.uid for r in self.store.reports if r.key == key and r.op is Op.TOMBSTONE]

    def events(self):
        """(type, reason, message) of every Event reported, in order."""
        bodies = [json.loads(r.body) for r in self.store.reports if r.key.kind == "Event"]
        return [(e["type"], e["reason"], e["message"]) for e in bodies]
