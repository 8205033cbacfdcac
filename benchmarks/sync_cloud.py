"""The cloud's process of `sync.py`: a cloudhub between a record source and a subscriber to readings, and raw gRPC.

Started by `sync.py` with a folder of certificates; takes commands, a JSON line each, on standard input and answers
each with one line on standard output. Not a benchmark by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from cloudcore.cloudhub.server import CloudHub
from cloudcore.seams import SampleOrigin
from cloudcore.settings import HubSettings
from synccore.index import RecordIndex, record_version
from synccore.messages import Delta, ObjectKey, Op
from synccore.samples import newest
from synccore.series import Readings, Series, Value

NODE = "edge-1"
PROBE = Series("default/probe", "sent_s")
# Far above what any run takes.
UNTIL_S = 120.0
RAW_METHOD = "/benchmark.Raw/Send"


class Records:
    """`RecordSource` and `NodeView` of the one node, over a dict."""

    synced = True

    def __init__(self) -> None:
        self.index = RecordIndex()
        self._bodies: dict[ObjectKey, bytes] = {}
        self._changed: Any = lambda _key: None

    def ready(self, _node: str, _horizon: int = 0) -> bool:
        """Tell that it is."""
        return True

    def horizon(self) -> int:
        """Return that it has no order of changes."""
        return 0

    def open(self, _node: str, on_change: Any, _on_given_up: Any) -> Records:
        """Return itself."""
        self._changed = on_change
        return self

    def read(self, key: ObjectKey) -> Delta:
        """Return the newest delta of `key`."""
        body = self._bodies[key]
        return Delta(Op.UPSERT, key, "u", record_version("u", body), body=body)

    def close(self) -> None:
        """Tell nobody of changes."""
        self._changed = lambda _key: None

    def put(self, key: ObjectKey, body: bytes) -> None:
        """Change one record."""
        self._bodies[key] = body
        self.index.put(key, record_version("u", body))
        self._changed(key)


class Subscriber:
    """Keeps the newest reading of every series, counts all, and the delay of each probe."""

    def __init__(self) -> None:
        self.newest: dict[Series, tuple[int, Value]] = {}
        self.delays_ms: list[float] = []
        self.report_delays_ms: list[float] = []
        self.count = 0
        self._target, self._reached = 0, asyncio.Event()

    async def take(self, _origin: SampleOrigin, readings: Readings) -> None:
        """Take one block."""
        fresh = newest(readings)
        self.newest.update(fresh)
        if PROBE in fresh:
            self.delays_ms.append((time.monotonic() - float(fresh[PROBE][1])) * 1000)
        self.count += len(readings)
        if self._target and self.count >= self._target:
            self._reached.set()

    async def write(self, _node: str, delta: Delta) -> None:
        """Take one report; the body of a probe says when it was made."""
        if delta.key.kind != "Device":
            raise AssertionError(f"{delta.key}: {delta.body!r}")
        self.report_delays_ms.append((time.monotonic() - json.loads(delta.body)["sent_s"]) * 1000)

    async def until(self, count: int) -> float:
        """Return the moment at which `count` readings had come."""
        self._target = count
        self._reached.clear()
        if self.count < count:
            async with asyncio.timeout(UNTIL_S):  # what is lost never comes
                await self._reached.wait()
        return time.monotonic()


class Counters:
    """`HubCounters` that counts nothing, whatever it is asked to count."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


async def main(settings: HubSettings) -> None:
    subscriber, records = Subscriber(), Records()
    hub = CloudHub(
        settings, source=records, sink=subscriber, counters=Counters(), samples=subscriber
    )
    raw = await _raw_server(settings)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with hub:
        serving = asyncio.create_task(hub.run())
        _answer(raw.port)
        while line := await commands.readline():
            _answer(await _obey(json.loads(line), subscriber, records))
        serving.cancel()
    await raw.server.stop(0)


async def _obey(command: dict[str, Any], subscriber: Subscriber, records: Records) -> Any:
    match command["do"]:
        case "count":
            return subscriber.count
        case "until":
            return await subscriber.until(command["count"])
        case "delays":
            found = [subscriber.delays_ms[:], subscriber.report_delays_ms[:]]
            subscriber.delays_ms.clear()
            subscriber.report_delays_ms.clear()
            return found
        case "put":
            for number in range(command["count"]):
                body = json.dumps({"sent_s": time.monotonic()}).encode()
                records.put(ObjectKey("ConfigMap", "default", f"probe-{number % 50}"), body)
                await asyncio.sleep(command["interval_s"])
            return None
    raise ValueError(command)


class _Raw:
    """A gRPC server that takes messages and throws them away: what the wire itself can do."""

    def __init__(self, server: Any, port: int) -> None:
        self.server, self.port = server, port


async def _raw_server(settings: HubSettings) -> _Raw:
    async def swallow(_requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass
        await context.write(b"all")

    handler = grpc.stream_stream_rpc_method_handler(swallow)
    service, _, method = RAW_METHOD[1:].rpartition("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    credentials = _credentials(settings)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    return _Raw(server, port)


def _credentials(settings: HubSettings) -> grpc.ServerCredentials:
    pair = (Path(settings.key_file).read_bytes(), Path(settings.cert_file).read_bytes())
    authority = Path(settings.client_ca_file).read_bytes()
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=True)


def _answer(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    uvloop.run(main(HubSettings(**json.loads(sys.argv[1]))))
