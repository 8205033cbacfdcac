"""One run's world: certificates, a proxy, a cloud process, an edge process, and the truth that they must agree on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from corekit.failpoints import VARIABLE
from corekit.pki import Authority, KeyPair
from synccore.messages import Lane, Op
from tests.fakes.tcp_proxy import TcpProxy
from tests.faults.bodies import Key, body_of, short_hash
from tests.faults.history import History, Json
from tests.faults.lines import Process, ProcessGoneError, RefusedError

NODE, NEIGHBOUR, EVIL = "edge-1", "edge-2", "edge-evil"
DOWN_KINDS = ("Pod", "Pod", "ConfigMap", "Device")
ROOT = Path(__file__).parents[2]
# Generous: a deadline only ends a run that hangs. What convergence took is measured and printed.
CONVERGE_S = 60.0
START_S = 60.0
HEARTBEAT_S = 1.0  # a busy machine is not silent for two of them


class Site:
    """Certificates, ports and settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "pki", "test")
        self.cloud_port = free_port()
        self.cloud_pair = self.issue("cloudcore", "cloudcore", hosts=("127.0.0.1",))

    def issue(self, stem: str, name: str, **more: Any) -> KeyPair:
        """Make a certificate."""
        pair = KeyPair(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        return self.authority.issue(pair, name, **more)

    def cloud_hub(self) -> Json:
        """Return cloudcore's hub settings."""
        return {
            "address": f"127.0.0.1:{self.cloud_port}",
            "cert_file": str(self.cloud_pair.cert_file),
            "key_file": str(self.cloud_pair.key_file),
            "client_ca_file": str(self.authority.pair.cert_file),
            "heartbeat_s": HEARTBEAT_S,
        }

    def edge_hub(self, node: str, server: str) -> Json:
        """Return an edge's hub settings."""
        pair = self.issue(f"node-{node}", f"system:node:{node}")
        return {
            "server": server,
            "ca_file": str(self.authority.pair.cert_file),
            "cert_file": str(pair.cert_file),
            "key_file": str(pair.key_file),
            "backoff_min_s": 0.05,
            "backoff_max_s": 0.5,
        }


class Edge:
    """The edge of one node: a process that is started again, and the state directory that stays."""

    def __init__(self, world: World, node: str, name: str, folder: Path) -> None:
        self.world, self.node, self.name, self.folder = world, node, name, folder
        self.process = Process(name, world.folder / f"{name}.log", self._heard)
        self.up, self.database = asyncio.Event(), ""
        self.expect_end = False
        self.silent = False  # a clone: what it holds is not judged
        self.may_end = False  # a disk that fails may end it; a service manager starts it again
        self.environment: dict[str, str] = {}
        self.server = ""  # empty: the cloud, through the proxy
        self.first_usage: Json = {}
        self._guard: asyncio.Task[None] | None = None
        folder.mkdir(exist_ok=True)

    @property
    def path(self) -> Path:
        """Where its database lies."""
        return self.folder / "edge.db"

    async def start(self, **environment: str) -> None:
        """Start the process; return when it has opened its store. It may not have reached the cloud."""
        await self.spawn(**environment)
        await first_of(self.up.wait(), self.ended())
        if not self.up.is_set():
            text = f"{self.name} did not start:\n{self.process.log_tail()}"
            self.world.problem(text)
            raise TimeoutError(text)
        if not self.first_usage:
            self.first_usage = await self.process.ask("state")

    async def spawn(self, **environment: str) -> None:
        """Start the process and do not wait."""
        config = self.world.folder / f"{self.name}.json"
        hub = self.world.site.edge_hub(self.node, self.server or self.world.proxy.address)
        settings = {"node": self.node, "database": str(self.path), "hub": hub}
        config.write_text(json.dumps({**settings, "canonical": self.world.canonical}))
        self.expect_end = False
        await self.process.start(
            "tests.faults.agent",
            str(config),
            env=self.world.environment(**self.environment, **environment),
        )
        self._guard = asyncio.create_task(self._watch())

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process and wait until it is gone."""
        self.expect_end = True
        self.process.send_signal(number)
        await self.ended()

    async def revive(self) -> None:
        """Start the process again if it has ended by itself and may, as a service manager does."""
        if self.may_end and not self.expect_end and not self.process.running:
            await self.ended()
            await self.start()

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self._guard is not None:
            await asyncio.shield(self._guard)

    async def restart(self, number: int = signal.SIGKILL, **environment: str) -> None:
        """End it and start it again."""
        await self.kill(number)
        await self.start(**environment)

    async def _watch(self) -> None:
        status = await self.process.ended()
        self.up.clear()
        expected = self.expect_end or self.may_end
        tail = "" if expected else self.process.log_tail()
        self.world.history.add("ended", who=self.name, status=status, expected=expected, log=tail)

    def _heard(self, said: Json) -> None:
        if said["event"] == "ready":
            self.database = said["database"]
            self.up.set()
        if self.silent:
            return
        if said["event"] == "ready":
            self.world.history.add(
                "started", node=self.node, database=said["database"], objects=said["objects"]
            )
        elif said["event"] == "report_all":
            self.world.report_everything(self)
        elif said["event"] == "seen":
            self.world.history.add("seen", node=self.node, objects=said["objects"])


class World:
    """Everything of one run. Enter starts it, exit ends every process."""

    def __init__(self, folder: Path, seed: int, *, sink_delay_s: float = 0.004) -> None:
        self.folder, self.seed = folder, seed
        shutil.rmtree(folder, ignore_errors=True)  # what another run left is not this run's past
        folder.mkdir(parents=True)
        self.site = Site(folder)
        self.history = History(folder / "history.jsonl")
        self.random = random.Random(seed)
        self.proxy = TcpProxy("127.0.0.1", self.site.cloud_port)
        self.cloud = Process("cloud", folder / "cloud.log", self._cloud_heard)
        self.edge = Edge(self, NODE, NODE, folder / NODE)
        self.edges = [self.edge]
        self.canonical = False  # whether bodies change their form on the way
        self.flowing = asyncio.Event()  # cleared: the workload pauses
        self.flowing.set()
        self.records: dict[Key, int] = {}  # what the cloud wants of the node: key to n
        self.changed: set[Key] = set()
        self.base_environment: dict[str, str] = {}
        self.convergence_s: list[float] = []
        self.on_exit: list[Callable[[], None]] = []
        self._sink = folder / "sink.jsonl"
        self._sink_delay_s = sink_delay_s
        self._number = 0
        self._cloud_ready, self._loaded = asyncio.Event(), False
        self._cloud_expect_end = False
        self._cloud_guard: asyncio.Task[None] | None = None
        self._cloud_first: Json = {}
        self._telling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.proxy.__aenter__()
        try:
            await self.start_cloud()
            await self.edge.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for edge in self.edges:
            if edge.process.running:
                edge.process.send_signal(signal.SIGCONT)
                await edge.kill()
        if self.cloud.running:
            self.cloud.send_signal(signal.SIGCONT)
            await self.kill_cloud()
        await self.proxy.__aexit__()
        for undo in self.on_exit:
            undo()
        self.read_sink()
        self.history.close()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process: ours, without failpoints that it was not given."""
        inherited = {k: v for k, v in os.environ.items() if k != VARIABLE}
        return {**inherited, "PYTHONPATH": str(ROOT), **self.base_environment, **more}

    def problem(self, text: str) -> None:
        """Note what must not be."""
        self.history.add("problem", text=text)

    def injected(self, fault: str, **fields: Any) -> None:
        """Note that a fault was injected."""
        self.history.add("fault", fault=fault, **fields)

    # The cloud process.

    async def start_cloud(self, **environment: str) -> None:
        """Start it and give it the list of records."""
        await self.spawn_cloud(**environment)
        async with asyncio.timeout(START_S):
            await self._cloud_ready.wait()
        listed = [[NODE, *key, body_of(key, n)] for key, n in self.records.items()]
        self._loaded = True
        await self.cloud.ask("load", records=listed)
        self._cloud_first = self._cloud_first or await self._cloud_state()

    async def spawn_cloud(self, **environment: str) -> None:
        """Start the process and do not wait."""
        config = self.folder / "cloud.json"
        config.write_text(
            json.dumps(
                {
                    "hub": self.site.cloud_hub(),
                    "sink": str(self._sink),
                    "sink_delay_s": self._sink_delay_s,
                    "nodes": [NODE, NEIGHBOUR, EVIL],
                }
            )
        )
        await self._start_cloud_process("tests.faults.cloud", str(config), **environment)

    async def _start_cloud_process(self, *command: str, **environment: str) -> None:
        self._cloud_expect_end = False
        await self.cloud.start(*command, env=self.environment(**environment))
        self._cloud_guard = asyncio.create_task(self._watch_cloud())

    async def kill_cloud(self, number: int = signal.SIGKILL) -> None:
        """End it and wait until it is gone."""
        self._cloud_expect_end = True
        self.cloud.send_signal(number)
        await self.cloud_ended()

    def expect_cloud_end(self) -> None:
        """Say that a failpoint will end it."""
        self._cloud_expect_end = True

    async def cloud_ended(self) -> None:
        """Wait until it has ended."""
        if self._cloud_guard is not None:
            await asyncio.shield(self._cloud_guard)

    async def _watch_cloud(self) -> None:
        status = await self.cloud.ended()
        self._cloud_ready.clear()
        self._loaded = False
        expected = self._cloud_expect_end
        tail = "" if expected else self.cloud.log_tail()
        self.history.add("ended", who="cloud", status=status, expected=expected, log=tail)

    def _cloud_heard(self, said: Json) -> None:
        if said["event"] == "ready":
            self._cloud_ready.set()

    # What the workload does.

    def next_number(self) -> int:
        """Return a number that nothing had before; a larger one is newer."""
        self._number += 1
        return self._number

    def row(self, number: int, rng: random.Random) -> tuple[Key, Lane, Op]:
        """Return what writer `number` writes next."""
        choice = rng.random()
        if choice < 0.5:
            return ("Device", "default", f"d{number}-{rng.randrange(5)}"), Lane.TWINS, Op.UPSERT
        if choice < 0.7:
            return ("Pod", "default", f"p{number}-{rng.randrange(5)}"), Lane.PODS, Op.UPSERT
        if choice < 0.75:
            return ("Node", "", f"{NODE}-{number}"), Lane.CONTROL, Op.UPSERT
        return ("Reading", "default", f"r{rng.randrange(3)}"), Lane.SAMPLES, Op.APPEND

    def row_body(self, key: Key, n: int, edge: Edge) -> tuple[str, str, str]:
        """Return uid, body, and the hash by which the body will be known."""
        body = body_of(key, n, node=edge.node)
        return "u", body, short_hash(body.encode())

    def down_keys(self, rng: random.Random) -> list[Key]:
        """Return the keys that come and go at the cloud."""
        return [(rng.choice(DOWN_KINDS), "default", f"x{n}") for n in range(30)]

    def put(self, key: Key) -> None:
        """Want a new state of `key`."""
        n = self.next_number()
        self.records[key] = n
        self.history.add("put", node=NODE, key=key, n=n)
        self._tell_cloud(key, body_of(key, n))

    def drop(self, key: Key) -> None:
        """Want `key` gone."""
        if self.records.pop(key, None) is not None:
            self.history.add("drop", node=NODE, key=key, n=self.next_number())
            self._tell_cloud(key, None)

    async def report(
        self, rows: list[tuple[Key, Lane, Op]], edge: Edge | None = None
    ) -> bool | None:
        """Have the edge commit rows; True: acknowledged, False: refused, None: the process is gone."""
        edge = edge or self.edge
        if not edge.up.is_set():
            return None
        wire, numbers = [], []
        for key, lane, op in rows:
            n = self.next_number()
            uid, body, hashed = self.row_body(key, n, edge)
            self.history.add(
                "asked",
                node=edge.node,
                key=key,
                n=n,
                op=int(op),
                lane=int(lane),
                hash=hashed,
                database=edge.database,
            )
            wire.append([*key, uid, body, int(lane), int(op)])
            numbers.append(n)
        try:
            await edge.process.ask("report", rows=wire)
        except ProcessGoneError:
            return None
        except RefusedError as exc:
            self.history.add("refused", numbers=numbers, why=str(exc))
            return False
        for n in numbers:
            self.history.add("acked", node=edge.node, n=n)
        return True

    def report_everything(self, edge: Edge) -> None:
        """Report every state again, as the agent's components do when they are asked to."""
        self.history.add("report_all", node=edge.node)
        rows = [
            [(tuple(said["key"]), said["lane"], Op.UPSERT)]
            for said in {
                tuple(said["key"]): said
                for said in self.history.events
                if said["e"] == "asked" and said["op"] == Op.UPSERT
            }.values()
        ]
        for row in rows:
            task = asyncio.create_task(self._report_again(row, edge))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _report_again(self, row: list[tuple[Key, Lane, Op]], edge: Edge) -> None:
        await self.report(row, edge)

    def _tell_cloud(self, key: Key, body: str | None) -> None:
        self.changed.add(key)
        if self._loaded:
            task = asyncio.create_task(self._tell([[NODE, *key, body]]))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, records: list[list[Any]]) -> None:
        with suppress(ProcessGoneError):
            await self.cloud.ask("change", records=records)

    # The end of a run.

    async def until(self, what: str, check: Callable[[], Awaitable[bool]]) -> float:
        """Wait until `check()`; return how long that took. Raises: TimeoutError: it is noted as late (I4)."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(CONVERGE_S):
                while not await check():
                    await self.edge.revive()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.history.add("late", what=what, after_s=CONVERGE_S)
            raise
        return loop.time() - began_s

    async def converged(self) -> bool:
        """Tell whether edge and cloud are equal and nothing waits."""
        try:
            edge, cloud = await self.edge.process.ask("state"), await self.cloud.ask("state")
        except (ProcessGoneError, RefusedError):
            return False
        same = edge["digest"] == cloud["digests"][NODE] and edge["records"] == len(self.records)
        return same and edge["connected"] and edge["waiting"] == 0

    async def converge(self) -> None:
        """Wait until both sides are equal (I4)."""
        took_s = await self.until("edge and cloud are equal", self.converged)
        self.convergence_s.append(took_s)
        self.history.add("converged", took_s=round(took_s, 3))

    async def pause(self) -> None:
        """Stop the workload and wait until both sides are equal; `flowing.set()` lets it go on."""
        self.flowing.clear()
        await asyncio.sleep(0.1)  # what was asked for before is on its way
        await self.until("edge and cloud are equal in a pause", self.converged)

    async def probe_resume(self) -> None:
        """Cut, change some keys, heal; note how many were changed and how many were sent (I5)."""
        await self.proxy.cut()
        await self.until("both ends notice the cut", self._cut_off)
        before, keys = (await self.cloud.ask("state"))["sent"], sorted(self.records)
        changed = self.random.sample(keys, min(len(keys), self.random.randrange(4)))
        for key in changed:
            self.put(key)
        await self.proxy.heal()
        await self.converge()
        sent = (await self.cloud.ask("state"))["sent"] - before
        self.history.add("resume", changed=len(changed), sent=sent)

    async def _cut_off(self) -> bool:
        """Tell whether neither end holds a session: into one that is dead changes would be sent once more."""
        edge, cloud = await self.edge.process.ask("state"), await self.cloud.ask("state")
        return not edge["connected"] and NODE not in cloud["joined"]

    async def check_bounds(self) -> None:
        """Note memory and descriptors now beside those at the start (I8)."""
        pairs = (
            ("edge", self.edge.first_usage, await self.edge.process.ask("state")),
            ("cloud", self._cloud_first, await self._cloud_state()),
        )
        for name, first, last in pairs:
            counted = ("fds", "rss_bytes")
            now, then = {c: last[c] for c in counted}, {c: (first or last)[c] for c in counted}
            self.history.add("usage", who=name, first=then, last=now)

    async def _cloud_state(self) -> Json:
        return dict(await self.cloud.ask("state"))

    def read_sink(self) -> None:
        """Put what reached the cloud into the history, in the order in which it did."""
        if not self._sink.exists():
            return
        for line in self._sink.read_bytes().splitlines():
            row = json.loads(line)
            if row["node"] != NODE:
                continue
            if row["key"][0] in (
                "Loss",
                "Event",
            ):  # the store's own words: what it gave up, or rebuilt
                self.history.add("notice", key=row["key"], body=row["body"])
                continue
            try:
                n = json.loads(row["body"])["n"]
            except (ValueError, KeyError, TypeError):
                n = -1
            self.history.add(
                "sink",
                node=row["node"],
                key=row["key"],
                op=row["op"],
                n=n,
                sequence=row["sequence"],
                version=row["version"],
                hash=short_hash(row["body"].encode()),
            )


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them has, or at the deadline."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
