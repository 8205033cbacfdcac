"""The edge as a process: the real MetaStore and EdgeHub over real gRPC; the workload comes on standard input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from corekit.lifecycle import run_components, run_until_signalled
from corekit.logs import configure_logging
from edgecore.edgehub.client import EdgeHub
from edgecore.edgehub.stream import dial
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from edgecore.settings import HubSettings
from synccore.messages import Lane, ObjectKey, Op
from tests.faults.bodies import short_hash
from tests.faults.lines import Lines, usage_of
from tests.faults.tamper import TamperedStream, Tampering

KINDS = ("Pod", "ConfigMap", "Device")


class Agent:
    """Component: tells what the store holds as it changes, and does what it is told."""

    name = "agent"

    def __init__(
        self, store: MetaStore, hub: EdgeHub, tampering: Tampering, *, canonical: bool
    ) -> None:
        self._told = partial(_told, canonical=canonical)
        # What edged and devicetwin do: say everything again. Here the workload knows what that is.
        hub.on_report_all(lambda: self._lines.emit("report_all"))
        self._store, self._hub, self._tampering = store, hub, tampering
        self._lines = Lines(
            {
                "report": self.report,
                "state": self.state,
                "objects": self.objects,
                "tamper": self.tamper,
            }
        )

    async def __aenter__(self):
        self._feed = self._store.feed(*KINDS)
        self._lines.emit(
            "ready", database=self._store.database_id.hex(), objects=await self.objects()
        )
        return self

    async def __aexit__(self, *exc_info):
        pass

    async def run(self):
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            group.create_task(self._tell())

    async def report(self, rows):
        """Commit reports: [kind, namespace, name, uid, body, lane, op]."""
        reports = [
            Report(ObjectKey(*row[:3]), row[3], row[4].encode(), Lane(row[5]), Op(row[6]))
            for row in rows
        ]
        await self._store.commit(Commit(reports=reports))
        return True

    async def state(self):
        """Return what convergence and bounds are judged by."""
        waiting = 0
        for lane in Lane:
            waiting += len(await self._store.unsent(lane, 0, 10_000, 1 << 30))
        index = self._store.index
        return {
            "connected": self._hub.connected,
            "digest": index.digest().hex(),
            "records": len(index),
            "waiting": waiting,
            **usage_of(),
        }

    async def objects(self):
        """Return [kind, namespace, name, n, hash] of everything stored, as read from the disk."""
        found = []
        for kind in KINDS:
            found += [self._told(stored) for stored in await self._store.list(kind)]
        return found

    async def tamper(self, **settings):
        """Change what is done to messages."""
        self._tampering.change(**settings)
        return self._tampering.count

    async def _serve(self):
        await self._lines.serve()
        os.kill(os.getpid(), signal.SIGTERM)  # the harness is gone
        await asyncio.Event().wait()

    async def _tell(self):
        while True:
            seen = []
            for key in await self._feed.changed():
                stored = await self._store.get(key)
                seen.append(self._told(stored) if stored else [*key, None, ""])
            self._lines.emit("seen", objects=seen)


def _told(stored, *, canonical):
    """Return the key, the number and a hash of the whole body, or of what the workload put into it."""
    try:
        tree = json.loads(stored.body)
        if canonical:
            written = json.dumps({"n": tree["n"], "pad": tree["pad"]}).encode()
            return [*stored.key, tree["n"], short_hash(written)]
        return [*stored.key, tree["n"], short_hash(stored.body)]
    except (ValueError, KeyError, TypeError):  # damaged: the checker must learn of it, not we die
        return [*stored.key, -1, short_hash(stored.body)]


def main() -> int:
    """Run the agent that the file in the first argument describes."""
    config = json.loads(Path(sys.argv[1]).read_text())
    configure_logging(json_lines=False, level="info")
    store = MetaStore(Path(config["database"]))
    tampering = Tampering()

    @asynccontextmanager
    async def dial_through(settings):
        async with dial(settings) as stream:
            yield TamperedStream(stream, tampering)

    hub = EdgeHub(HubSettings(**config["hub"]), config["node"], store, dial_with=dial_through)
    agent = Agent(store, hub, tampering, canonical=config["canonical"])

    async def serve(stop):
        await run_components([store, agent, hub], stop)

    return run_until_signalled(serve)


if __name__ == "__main__":
    sys.exit(main())
