"""A cloudhub by itself, between made-up records and a sink that takes everything at once.

    python benchmarks/scale_hub.py FOLDER ADDRESS NODES RECORDS

Prints one JSON line a second: joins, streams that ended by code, deltas and bytes sent. Takes `change K` (K records
of the first node get another body) and `stop` on standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import uvloop

from cloudcore.cloudhub.server import CloudHub
from cloudcore.settings import HubSettings
from corekit.collector import expect_long_lives
from corekit.lifecycle import run_components
from synccore.index import RecordIndex, record_version
from synccore.messages import Delta, Lane, ObjectKey, Op

# About what a pod of one container is once status and managedFields are gone.
BODY = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0000", "namespace": "default", "labels": {"app": "web"}},
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "registry.example/web:1.4.2",
                    "env": [{"name": f"SETTING_{n}", "value": f"value-{n}"} for n in range(12)],
                    "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
                    "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/token"}],
                }
            ],
            "nodeName": "edge-0",
            "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}],
        },
    }
).encode()


class View:
    def __init__(self, source: Source, node: str) -> None:
        self.index = source.indexes[node]
        self._source, self._node = source, node

    def read(self, key: ObjectKey) -> Delta | None:
        body = self._source.bodies.get((self._node, key), BODY)
        version = self.index.version(key)
        return None if version is None else Delta(Op.UPSERT, key, "u", version, body=body)

    def close(self) -> None:
        self._source.watchers.pop(self._node, None)


class Source:
    """`RecordSource` of as many equal records as asked for on every node."""

    def ready(self, node: str, horizon: int = 0) -> bool:
        return True

    def horizon(self) -> int:
        return 0

    def __init__(self, nodes: int, records: int) -> None:
        self.indexes = {f"edge-{n}": RecordIndex() for n in range(nodes)}
        self.bodies: dict[tuple[str, ObjectKey], bytes] = {}
        self.watchers: dict[str, Callable[[ObjectKey], None]] = {}
        version = record_version("u", BODY)
        self.keys = [ObjectKey("Pod", "default", f"web-{n:04d}") for n in range(records)]
        for index in self.indexes.values():
            for key in self.keys:
                index.put(key, version)

    def open(
        self, node: str, on_change: Callable[[ObjectKey], None], on_given_up: Callable[[], None]
    ) -> View:
        self.watchers[node] = on_change
        return View(self, node)

    def change(self, count: int) -> None:
        step = max(1, len(self.keys) // max(count, 1))
        for key in self.keys[::step][:count]:
            body = BODY.replace(b"1.4.2", b"1.5.%d" % time.monotonic_ns())
            self.bodies["edge-0", key] = body
            self.indexes["edge-0"].put(key, record_version("u", body))
            if "edge-0" in self.watchers:
                self.watchers["edge-0"](key)


class Sink:
    async def write(self, node: str, delta: Delta) -> None:
        """Take it."""


class Counters:
    def __init__(self) -> None:
        self.joins, self.ends, self.deltas, self.sent_bytes = 0, Counter[str](), 0, 0
        self.session_count = 0

    def sent(self, kind: str, op: str, count: int) -> None:
        self.deltas += count

    def joined(self, *, in_sync: bool) -> None:
        self.joins += 1

    def moved(self, direction: str, lane: Lane, frames: int, deltas: int, size: int) -> None:
        if direction == "down":
            self.sent_bytes += size

    def ended(self, code: str) -> None:
        self.ends[code] += 1

    def set_aside(self, kind: str) -> None:
        pass

    def gauge(
        self, session_count: int, waiting_count: int, lags_s: dict[tuple[str, Lane], float]
    ) -> None:
        self.session_count = session_count


async def main() -> None:
    expect_long_lives()  # as cloudcore
    folder, address, nodes, records = sys.argv[1:]
    counters, source, stop = Counters(), Source(int(nodes), int(records)), asyncio.Event()
    settings = HubSettings(
        address=address,
        cert_file=str(Path(folder) / "cloudcore.crt"),
        key_file=str(Path(folder) / "cloudcore.key"),
        client_ca_file=str(Path(folder) / "ca.crt"),
    )
    hub = CloudHub(settings, source=source, sink=Sink(), counters=counters)
    commands = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(commands)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)

    async def report() -> None:
        while True:
            state = {
                "joins": counters.joins,
                "ends": dict(counters.ends),
                "deltas": counters.deltas,
                "bytes": counters.sent_bytes,
                "sessions": counters.session_count,
                "cpu_s": time.process_time(),
                "at_s": time.monotonic(),
            }
            print(json.dumps(state), flush=True)
            await asyncio.sleep(1.0)

    async def obey() -> None:
        while line := (await commands.readline()).decode().split():
            if line[0] == "change":
                source.change(int(line[1]))
        stop.set()

    tasks = [asyncio.create_task(report()), asyncio.create_task(obey())]
    await run_components([hub], stop)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    uvloop.run(main())
