"""Simulated edge nodes in one process: the real hub and the real connection, with a store in memory.

    python benchmarks/scale_fleet.py FOLDER SERVER FIRST COUNT

FOLDER holds `ca.crt` and a certificate for each node. Prints one JSON line whenever what is joined or in sync
has changed; takes `cut` (drop every connection now, dial again as after a lost link), its halves `pause` and `resume`,
and `stop` on standard input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import resource
import sys
import time
from pathlib import Path

import uvloop

from corekit.looplag import LoopLag
from edgecore.edgehub.client import EdgeHub
from edgecore.records import Commit, OutboxRow, Report
from edgecore.settings import HubSettings
from synccore.index import RecordIndex
from synccore.messages import Lane, ObjectKey, Op

REPORT_S = 0.1
# What EdgeHub waits after a link that worked: full jitter over its least back-off.
JITTER_S = HubSettings().backoff_min_s
LEASE_S = 10.0  # as edgecore's


class _Feed:
    async def changed(self) -> set[Lane]:
        await asyncio.Event().wait()
        return set()


class MemoryStore:
    """`HubStore` that keeps keys and versions only."""

    def __init__(self) -> None:
        self.database_id, self.index = os.urandom(16), RecordIndex()
        self.run_id, self.fork, self.must_report_all = os.urandom(16).hex(), 0, False
        self.applied_count = 0

    async def commit(self, commit: Commit) -> None:
        for delta in commit.deltas:
            self.applied_count += 1
            if delta.op is Op.UPSERT:
                self.index.put(delta.key, delta.version)
            elif delta.op is Op.TOMBSTONE:
                self.index.drop(delta.key)
            elif (key := self.index.key_of(delta.version)) is not None:
                self.index.drop(key)

    async def local(self, _owner: str) -> dict[str, bytes]:
        return {}

    async def unsent(self, *_: object) -> list[OutboxRow]:
        return []

    async def acknowledge(self, *_: object) -> None:
        pass

    async def welcomed(self) -> None:
        pass

    def converged(self) -> None:
        pass

    def outbox_feed(self) -> _Feed:
        return _Feed()

    def rebuilt_feed(self) -> _Feed:
        return _Feed()


class SimulatedNode:
    """One node: its store lives through cuts, its hub is made anew."""

    def __init__(self, folder: Path, server: str, name: str, lag: LoopLag) -> None:
        self.name, self.store, self._lag = name, MemoryStore(), lag
        self._settings = HubSettings(
            server=server,
            ca_file=str(folder / "ca.crt"),
            cert_file=str(folder / f"{name}.crt"),
            key_file=str(folder / f"{name}.key"),
        )
        self._task: asyncio.Task[None] | None = None
        self.hub: EdgeHub | None = None

    def start(self, within_s: float) -> None:
        self._task = asyncio.create_task(self._run(within_s))

    def stop(self) -> float:
        """End it; return within which time EdgeHub would dial again if its link had been lost."""
        assert self._task
        link = self.hub._link if self.hub is not None else None
        self._task.cancel()
        self.hub = None
        return max(JITTER_S, link.spread_s if link is not None else 0.0)

    async def _run(self, within_s: float) -> None:
        await asyncio.sleep(random.uniform(0, within_s))
        self.hub = EdgeHub(self._settings, self.name, self.store, lag=self._lag)
        async with self.hub, asyncio.TaskGroup() as group:
            group.create_task(self.hub.run())
            group.create_task(self._renew(self.hub))

    async def _renew(self, hub: EdgeHub) -> None:
        key = ObjectKey("Lease", "kube-node-lease", self.name)
        while True:
            now = time.time()
            stamp = (
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
            )
            body = json.dumps({"renewTime": stamp, "leaseDurationSeconds": 40}).encode()
            hub.offer(Report(key, "", body, Lane.CONTROL))
            await asyncio.sleep(LEASE_S * random.uniform(0.9, 1.1))


async def main() -> None:
    logging.basicConfig(level=logging.ERROR)  # thousands of nodes say that they wait for the hub
    # Half of this process's time went into walking all nodes again and again, which no node of its own does.
    gc.disable()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder, server, first, count = sys.argv[1:]
    names = [f"edge-{n}" for n in range(int(first), int(first) + int(count))]
    lag = LoopLag()  # of this process, and so of all its nodes
    watching = asyncio.create_task(lag.run())
    nodes = [SimulatedNode(Path(folder), server, name, lag) for name in names]
    for node in nodes:
        node.start(JITTER_S)
    commands = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(commands)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    command = asyncio.create_task(commands.readline())
    said = None
    while True:
        await asyncio.wait([command], timeout=REPORT_S)
        if command.done():
            word = command.result().decode().strip()
            if word in ("", "stop"):
                watching.cancel()
                os._exit(
                    0
                )  # thousands of channels take longer to close than the machine to forget them
            for node in nodes:
                if word == "cut":
                    node.start(node.stop())
                elif word == "pause":
                    node.stop()
                elif word == "resume":
                    node.start(0.0)
            said = None
            command = asyncio.create_task(commands.readline())
        live = [node for node in nodes if node.hub is not None and node.hub.in_sync]
        applied = sum(node.store.applied_count for node in nodes)
        records = sum(len(node.store.index) for node in nodes)
        state = {"in_sync": len(live), "applied": applied, "records": records}
        if state != said:
            said = dict(state)
            print(json.dumps({**state, "at_s": time.monotonic()}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
