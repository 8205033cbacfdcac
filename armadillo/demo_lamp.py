"""A leaf device for demonstrations: a lamp that knows MQTT and its own name, and nothing of Kubernetes.

`python -m armadillo.demo_lamp --broker 127.0.0.1:1883 --device default/lamp-01`
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiomqtt
import msgspec

from corekit.backoff import Backoff
from corekit.logs import RepeatedFault, configure_logging

logger = logging.getLogger("lamp")

ROOM_C = 21.0
WATTS_C = 14.0  # how much warmer the housing gets at full brightness
DRIFT = 0.25  # of the way to the goal, at each reading


@dataclass
class Lamp:
    """The lamp itself: what a real one has in hardware."""

    power: bool = False
    brightness: int = 100
    temperature: float = ROOM_C

    def obey(self, wanted: Mapping[str, object]) -> list[str]:
        """Take the values asked for; return the names of the properties that were touched."""
        touched = []
        for name, value in wanted.items():
            if name == "power" and value in ("true", "false"):
                self.power = value == "true"
            elif name == "brightness" and str(value).isdecimal() and int(str(value)) <= 100:
                self.brightness = int(str(value))
            else:
                logger.warning("cannot set %s to %r", name, value)
                continue
            touched.append(name)
        return touched

    def drift(self, noise: float) -> None:
        """Let some time pass for the housing."""
        goal = ROOM_C + (WATTS_C * self.brightness / 100 if self.power else 0.0)
        self.temperature += (goal - self.temperature) * DRIFT + noise

    def values(self, names: Sequence[str]) -> dict[str, str]:
        """Return property values as they go over the wire."""
        known = {
            "power": "true" if self.power else "false",
            "brightness": str(self.brightness),
            "temperature": f"{self.temperature:.1f}",
        }
        return {name: known[name] for name in names}


class LampOnMqtt:
    """The lamp's firmware: connects, asks for its twin, obeys deltas, reports."""

    def __init__(self, host: str, port: int, device: str, *, interval_s: float) -> None:
        self.lamp = Lamp()
        self._host, self._port, self._interval_s = host, port, interval_s
        self._prefix = f"$hw/events/device/{device}"
        self._device = device
        self._fault = RepeatedFault(logger, f"broker {host}:{port}")
        self._backoff = Backoff(0.2, 5.0)

    async def run(self) -> None:
        """Serve until cancelled, then say goodbye."""
        while True:
            try:
                await self._connect_and_serve()
            except* aiomqtt.MqttError as group:
                self._fault.failed(group.exceptions[0])
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _connect_and_serve(self) -> None:
        state = f"{self._prefix}/state/update"
        will = aiomqtt.Will(state, msgspec.json.encode({"state": "offline"}), qos=1)
        identifier = "lamp-" + self._device.replace("/", "-")
        async with aiomqtt.Client(
            self._host, self._port, identifier=identifier, will=will, keepalive=10
        ) as client:
            self._fault.cleared()
            self._backoff.reset()
            logger.info("%s: connected to %s:%d", self._device, self._host, self._port)
            tails = ("twin/update/delta", "twin/update/result", "twin/get/result")
            await client.subscribe([(f"{self._prefix}/{tail}", 1) for tail in tails])
            try:
                await client.publish(state, msgspec.json.encode({"state": "online"}), qos=1)
                await client.publish(f"{self._prefix}/twin/get", b"{}", qos=1)
                await self._report(client, ("power", "brightness", "temperature"))
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._listen(client))
                    group.create_task(self._measure(client))
            finally:
                # A clean goodbye keeps the broker from sending the will, so say it ourselves.
                goodbye = msgspec.json.encode({"state": "offline"})
                await client.publish(state, goodbye, qos=1, timeout=1)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            try:
                body = msgspec.json.decode(bytes(message.payload or b""))
            except (msgspec.DecodeError, UnicodeDecodeError):
                logger.warning("%s: not JSON", message.topic)
                continue
            if not isinstance(body, dict):
                logger.warning("%s: not an object", message.topic)
                continue
            if "code" in body:
                logger.warning("refused: %s %s", body["code"], body.get("reason"))
            elif wanted := _wanted(message.topic.value, body):
                logger.info("asked for %s", wanted)
                if touched := self.lamp.obey(wanted):
                    await self._report(client, touched)

    async def _measure(self, client: aiomqtt.Client) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            self.lamp.drift(random.uniform(-0.1, 0.1))
            await self._report(client, ("temperature",))

    async def _report(self, client: aiomqtt.Client, names: Sequence[str]) -> None:
        values = self.lamp.values(names)
        twin = {name: {"actual": {"value": value}} for name, value in values.items()}
        body = msgspec.json.encode({"event_id": "", "timestamp": 0, "twin": twin})
        await client.publish(f"{self._prefix}/twin/update", body, qos=1)


def _wanted(topic: str, body: Mapping[str, Any]) -> dict[str, object]:
    """Return the values asked for in a delta, or in the twin that answers twin/get."""
    if topic.endswith("/delta"):
        delta = body.get("delta")
        return dict(delta) if isinstance(delta, dict) else {}
    if not topic.endswith("/get/result") or not isinstance(body.get("twin"), dict):
        return {}
    wanted = {}
    for name, twin in body["twin"].items():
        expected = twin.get("expected") if isinstance(twin, dict) else None
        if isinstance(expected, dict) and "value" in expected:
            wanted[name] = expected["value"]
    return wanted


async def _serve(lamp: LampOnMqtt) -> None:
    task = asyncio.create_task(lamp.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logger.info("switched off")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a lamp until SIGTERM or SIGINT; return the exit status."""
    parser = argparse.ArgumentParser(prog="demo_lamp", description=__doc__)
    parser.add_argument("--broker", default="127.0.0.1:1883", help="host:port")
    parser.add_argument("--device", default="default/lamp-01", help="namespace/name")
    parser.add_argument("--interval", type=float, default=3.0, help="seconds between readings")
    args = parser.parse_args(argv)
    host, _, port = args.broker.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--broker: {args.broker!r} is not host:port")
    if args.device.count("/") != 1 or not all(args.device.split("/")):
        parser.error(f"--device: {args.device!r} is not namespace/name")
    configure_logging(json_lines=False, level="info")
    asyncio.run(_serve(LampOnMqtt(host, int(port), args.device, interval_s=args.interval)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
