"""The cloud as a process: the real CloudHub; records come on standard input, reports go to a file.

The file stands for the Kubernetes API: what is in it survives the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

from cloudcore.cloudhub.server import CloudHub
from cloudcore.settings import HubSettings
from corekit.lifecycle import run_components, run_until_signalled
from corekit.logs import configure_logging
from synccore.messages import ObjectKey
from tests.fakes.cloud import FakeCounters, FakeSource
from tests.faults.lines import Lines, usage_of


class FileSink:
    """`ReportSink`: one line a report; it takes as long as an API server does."""

    def __init__(self, path: Path, delay_s: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._delay_s, self._random = delay_s, random.Random(os.getpid())

    async def write(self, node, delta):
        await asyncio.sleep(self._random.random() * self._delay_s)
        line = {
            "node": node,
            "op": int(delta.op),
            "key": list(delta.key),
            "uid": delta.uid,
            "version": delta.version,
            "sequence": delta.sequence,
            "body": delta.body.decode(),
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Cloud:
    """Component: the list of records is complete once `load` came."""

    name = "cloud"

    def __init__(self, config, nodes) -> None:
        self.source, self.counters = FakeSource(*nodes), FakeCounters()
        self.source.synced = False
        self.sink = FileSink(Path(config["sink"]), config["sink_delay_s"])
        self._lines = Lines({"change": self.change, "load": self.load, "state": self.state})

    async def __aenter__(self):
        self._lines.emit("ready")
        return self

    async def __aexit__(self, *exc_info):
        pass

    async def run(self):
        await self._lines.serve()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def load(self, records):
        """Take the first list: [node, kind, namespace, name, body]."""
        for node, *key, body in records:
            self.source.put(node, ObjectKey(*key), body.encode())
        self.source.synced = True

    async def change(self, records):
        """Take changes of the same shape; a body of None is a deletion."""
        for node, *key, body in records:
            if body is not None:
                self.source.put(node, ObjectKey(*key), body.encode())
            elif ObjectKey(*key) in self.source.records[node]:
                self.source.drop(node, ObjectKey(*key))

    async def state(self):
        """Return what convergence and bounds are judged by."""
        digests = {node: index.digest().hex() for node, index in self.source.indexes.items()}
        return {
            "digests": digests,
            "sent": self.counters.sent_objects.total(),
            "joined": sorted(self.hub._registry._live),
            "joins": len(self.counters.joins),
            "in_sync_joins": sum(self.counters.joins),
            **usage_of(),
        }


def main() -> int:
    """Run the cloud that the file in the first argument describes."""
    config = json.loads(Path(sys.argv[1]).read_text())
    configure_logging(json_lines=False, level="info")
    cloud = Cloud(config, config["nodes"])
    hub = CloudHub(
        HubSettings(**config["hub"]),
        source=cloud.source,
        sink=cloud.sink,
        counters=cloud.counters,
    )
    cloud.hub = hub

    async def serve(stop):
        await run_components([cloud, hub], stop)

    return run_until_signalled(serve)


if __name__ == "__main__":
    sys.exit(main())
