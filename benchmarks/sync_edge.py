"""The edge's process of `sync.py`: store, buffer and hub as edgecore has them, and the measurements on them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import socket
import statistics
import struct
import sys
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import sync_cloud
from sync_cloud import NODE, PROBE, RAW_METHOD
from sync_codec import NAMES, columns

from cloudcore.settings import HubSettings as CloudHubSettings
from corekit.pki import Authority, KeyPair
from edgecore.edgehub.client import EdgeHub
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from edgecore.samples.buffer import SampleBuffer
from edgecore.settings import HubSettings, OutboxPolicySettings, StoreSettings
from synccore.messages import BATCH_TARGET_BYTES, Lane, ObjectKey

BATCH_READINGS = 1_000
# Producers that each wait for their own batch to be on the disk: group commit takes them together.
DURABLE_PRODUCERS, DURABLE_BATCH = 8, 5_000
BACKGROUND_PER_S = 10_000
PROBE_INTERVAL_S = 0.005
# Producers on a fast disk run ahead of the link; what they made is measured, so nothing of it may give way.
OUTBOX = StoreSettings(
    outbox_max_bytes=2 << 30, outbox_policy=OutboxPolicySettings(samples="reject")
)
# Offset of `tcpi_bytes_acked` in linux/tcp.h's struct tcp_info.
_TCPI_BYTES_ACKED = 120


class Cloud:
    """The cloud's process, and commands to it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> Any:
        """Return its next answer."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the cloud's process has ended")
        return json.loads(line)

    async def ask(self, do: str, **arguments: object) -> Any:
        """Send a command; return the answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return await self.answer()


class Site:
    """One edge node connected to the cloud in the other process."""

    def __init__(self, cloud: Cloud, settings: HubSettings, raw_port: int, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        self._settings, self._raw_port = settings, raw_port
        self.store = MetaStore(folder / "edge.db", OUTBOX)
        self.buffer = SampleBuffer(self.store)
        self.hub = EdgeHub(settings, NODE, self.store, samples=self.buffer)

    async def memory(self, duration_s: float) -> float:
        """Return readings/s handed to the buffer, all of which the subscriber has seen."""
        batches = [columns(BATCH_READINGS, seed=seed) for seed in range(16)]
        before: int = await self.cloud.ask("count")
        overtaken = self.buffer.overtaken_count
        begun_s, count = time.monotonic(), 0
        while time.monotonic() - begun_s < duration_s:
            for batch in batches:
                await self.buffer.room()
                self.buffer.put(*batch)
                count += BATCH_READINGS
        ended_s: float = await self.cloud.ask("until", count=before + count)
        assert self.buffer.overtaken_count == overtaken, "values were replaced, not sent"
        return count / (ended_s - begun_s)

    async def durable(self, duration_s: float) -> float:
        """Return readings/s through the outbox, each fsynced before it was sent, all seen by the subscriber."""
        before: int = await self.cloud.ask("count")
        begun_s, counts = time.monotonic(), [0] * DURABLE_PRODUCERS

        async def produce(number: int) -> None:
            batch = columns(DURABLE_BATCH, seed=number)
            while time.monotonic() - begun_s < duration_s:
                await self.buffer.put_durable(*batch)
                counts[number] += DURABLE_BATCH

        async with asyncio.TaskGroup() as group:
            for number in range(DURABLE_PRODUCERS):
                group.create_task(produce(number))
        ended_s: float = await self.cloud.ask("until", count=before + sum(counts))
        return sum(counts) / (ended_s - begun_s)

    async def latencies(self, count: int) -> dict[str, list[float]]:
        """Return delays in ms of single deltas under a background of readings: up, up through the outbox, down."""
        await self.cloud.ask("delays")
        background = asyncio.create_task(self._background())
        try:
            await self._probe_up(count)
            await self._probe_reports(count)
            await asyncio.sleep(0.2)
            up, reports = await self.cloud.ask("delays")
            down = await self._probe_down(count)
        finally:
            background.cancel()
        return {"up": up, "up, through the outbox": reports, "down, until committed": down}

    async def wire_bytes_per_reading(self) -> float:
        """Return bytes that the kernel sent for each reading in batches of 1,000, each waited for."""
        count = 200 * BATCH_READINGS
        batches = [columns(BATCH_READINGS, seed=seed) for seed in range(16)]
        seen: int = await self.cloud.ask("count")
        await asyncio.sleep(0.2)
        before = _sent_bytes(self._settings.server)
        for number in range(200):
            self.buffer.put(*batches[number % 16])
            seen += BATCH_READINGS
            await self.cloud.ask("until", count=seen)
        return (_sent_bytes(self._settings.server) - before) / count

    async def raw_bytes_per_s(self, duration_s: float) -> float:
        """Return bytes/s of bare gRPC with the same TLS and messages as large as a block."""
        message = bytes(BATCH_TARGET_BYTES)
        address = f"127.0.0.1:{self._raw_port}"
        async with grpc.aio.secure_channel(address, _credentials(self._settings)) as channel:
            call = channel.stream_stream(RAW_METHOD)()
            begun_s, size_bytes = time.monotonic(), 0
            while time.monotonic() - begun_s < duration_s:
                await call.write(message)
                size_bytes += len(message)
            await call.done_writing()
            await call.read()
            return size_bytes / (time.monotonic() - begun_s)

    async def _background(self) -> None:
        period_s, batch = 0.01, columns(BACKGROUND_PER_S // 100)
        due_s = time.monotonic()
        while True:
            self.buffer.put(*batch)
            due_s += period_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _probe_up(self, count: int) -> None:
        number = self.buffer.series(*PROBE)
        for _ in range(count):
            times = array("q", [time.time_ns() // 1_000_000])
            self.buffer.put(array("I", [number]), times, array("d", [time.monotonic()]))
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _probe_reports(self, count: int) -> None:
        for number in range(count):
            key = ObjectKey("Device", "default", f"probe-{number % 50}")
            body = json.dumps({"sent_s": time.monotonic()}).encode()
            await self.store.commit(Commit(reports=[Report(key, "u", body, Lane.TWINS)]))
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _probe_down(self, count: int) -> list[float]:
        delays_ms: list[float] = []
        feed = self.store.feed("ConfigMap")

        async def watch() -> None:
            while True:
                keys = await feed.changed()
                seen_s = time.monotonic()
                for key in keys:
                    found = await self.store.get(key)
                    assert found
                    delays_ms.append((seen_s - json.loads(found.body)["sent_s"]) * 1000)

        watcher = asyncio.create_task(watch())
        await self.cloud.ask("put", count=count, interval_s=PROBE_INTERVAL_S)
        await asyncio.sleep(0.2)
        watcher.cancel()
        return delays_ms


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Start the cloud's process and connect one edge node to it."""
    authority = Authority(folder / "pki", "benchmark")

    def issue(name: str, common_name: str, hosts: tuple[str, ...] = ()) -> KeyPair:
        pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        return authority.issue(pair, common_name, hosts=hosts)

    authority_file = str(authority.pair.cert_file)
    cloud_pair = issue("cloud", "cloudcore", ("127.0.0.1",))
    node_pair = issue("node", f"system:node:{NODE}")
    address = f"127.0.0.1:{_free_port()}"
    cloud_settings = CloudHubSettings(
        address=address,
        cert_file=str(cloud_pair.cert_file),
        key_file=str(cloud_pair.key_file),
        client_ca_file=authority_file,
    )
    settings = HubSettings(
        server=address,
        ca_file=authority_file,
        cert_file=str(node_pair.cert_file),
        key_file=str(node_pair.key_file),
        backoff_min_s=0.05,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        sync_cloud.__file__,
        json.dumps(dataclasses.asdict(cloud_settings)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        cloud = Cloud(process)
        found = Site(cloud, settings, await cloud.answer(), folder)
        for series in NAMES:
            found.buffer.series(*series)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(found.store)
            await stack.enter_async_context(found.hub)
            running = asyncio.create_task(found.hub.run())
            while not found.hub.connected:
                await asyncio.sleep(0.01)
            yield found
            running.cancel()
            await asyncio.wait([running])
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of `values` lie."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def _credentials(settings: HubSettings) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        Path(settings.ca_file).read_bytes(),
        Path(settings.key_file).read_bytes(),
        Path(settings.cert_file).read_bytes(),
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _sent_bytes(server: str) -> int:
    """Return what the kernel has sent on this process's connection to `server`, TLS and HTTP/2 included."""
    total = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(entry.name))) as peer:
                host, port, *_ = peer.getpeername()
                if f"{host.removeprefix('::ffff:')}:{port}" == server:
                    found = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
                    total += struct.unpack_from("<Q", found, _TCPI_BYTES_ACKED)[0]
        except (OSError, ValueError):  # not a connected TCP socket
            continue
    assert total, "the connection was not found among our descriptors"
    return total
