"""The far ends of MQTT for tests: real brokers on free ports, and a client that plays a leaf device."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import aiomqtt

from edgecore.eventbus._packets_py import encode_publishes
from edgecore.eventbus.broker import EmbeddedBroker
from edgecore.settings import BrokerSettings

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def wait_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return


@contextlib.asynccontextmanager
async def mosquitto(port: int, folder: Path, *lines: str) -> AsyncIterator[None]:
    """Run mosquitto, in memory, until left."""
    config = folder / f"mosquitto-{port}.conf"
    base = [f"listener {port} 127.0.0.1", "persistence false", "user root"]
    config.write_text("\n".join([*base, *(lines or ("allow_anonymous true",))]) + "\n")
    process = await asyncio.create_subprocess_exec(
        MOSQUITTO, "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_listening(port)
        yield
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def embedded(port: int) -> AsyncIterator[None]:
    """Run the embedded broker until left."""
    broker = EmbeddedBroker(BrokerSettings(embedded_address=f"127.0.0.1:{port}"))
    task = asyncio.create_task(broker.run())
    try:
        await wait_listening(port)
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def broker(kind: str, port: int, folder: Path) -> AsyncIterator[BrokerSettings]:
    """Run the broker `kind` (mosquitto | embedded) and return the settings that reach it."""
    if kind == "embedded":
        async with embedded(port):
            yield settings_for(kind, port)
    else:
        async with mosquitto(port, folder):
            yield settings_for(kind, port)


def settings_for(kind: str, port: int) -> BrokerSettings:
    if kind == "embedded":
        return BrokerSettings(embedded_address=f"127.0.0.1:{port}", reconnect_max_s=0.2)
    return BrokerSettings(url=f"mqtt://127.0.0.1:{port}", reconnect_max_s=0.2)


async def flood(port: int, messages: Sequence[tuple[str, bytes]], *, name: bytes = b"f") -> None:
    """Publish at QoS 1 as fast as the broker takes it, as a device of MQTT 3.1.1; return when it has taken all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
    writer.write(b"\x10" + bytes([len(body)]) + body)
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    for start in range(0, len(messages), 500):
        part = messages[start : start + 500]
        writer.write(encode_publishes(part, range(1, len(part) + 1), modern=False))
        await reader.readexactly(4 * len(part))
    writer.close()
    await writer.wait_closed()


class LeafDevice:
    """A device on MQTT: asks, and collects what it is told."""

    def __init__(self, port: int, device_id: str, *, node: str = "edge-1") -> None:
        self.prefix = f"$hw/events/device/{device_id}"
        self.node_prefix = f"$hw/events/node/{node}"
        self.port = port
        self._client = aiomqtt.Client("127.0.0.1", port)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        tails = ("twin/update/result", "twin/update/delta", "twin/update/document")
        tails += ("twin/get/result", "state/update/result", "values/result")
        topics = [f"{self.prefix}/{tail}" for tail in tails]
        topics += [f"{self.node_prefix}/membership/updated"]
        topics += [f"{self.node_prefix}/membership/get/result"]
        await self._client.subscribe([(topic, 1) for topic in topics])
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)

    async def send(self, tail: str, body: object, *, qos: int = 1) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        prefix = self.node_prefix if tail.startswith("membership") else self.prefix
        await self._client.publish(f"{prefix}/{tail}", payload, qos=qos)

    async def told(self, tail: str) -> Any:
        """Return the next message whose topic ends in `tail`, passing others by."""
        async for message in self._client.messages:
            if message.topic.value.endswith(tail):
                return json.loads(message.payload)
        raise AssertionError("connection ended")

    async def ask(self, tail: str, body: object) -> Any:
        """Send a request; return its result."""
        await self.send(tail, body)
        return await self.told(f"{tail}/result")


def report(event_id: str = "e-1", **values: str) -> dict[str, Any]:
    """Return a twin/update request that reports `values`."""
    twin = {name: {"actual": {"value": value}} for name, value in values.items()}
    return {"event_id": event_id, "timestamp": 1, "twin": twin}
