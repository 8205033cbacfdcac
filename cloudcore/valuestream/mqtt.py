"""The component that publishes every value to an MQTT broker of the operator's, one message per device and block."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from typing import Self
from urllib.parse import unquote, urlsplit

import msgspec

from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import MqttSinkSettings
from corekit.backoff import Backoff
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from synccore.series import Readings

logger = logging.getLogger(__name__)

# Blocks that wait for the broker, some thousand values each. Full: the oldest goes, counted and said.
MAX_WAITING = 256
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0


class MqttSink:
    """`SampleSink` and component: `PREFIX/<namespace>/<name>` with {"values": [[property, time_ms, value], …]}."""

    name = "mqtt-sink"

    def __init__(self, settings: MqttSinkSettings, fanout: SampleFanout) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            wrong = f"{parts.scheme}://{parts.hostname or ''} is not mqtt[s]://[user:password@]host"
            raise ConfigError(SETTINGS, "mqtt_sink.url", wrong)
        self._parts, self._prefix = parts, settings.prefix.strip("/")
        self._fanout = fanout
        self._waiting: deque[Readings] = deque()
        self._filled = asyncio.Event()
        self.dropped_count = 0
        self._fault = RepeatedFault(logger, f"mqtt sink {parts.hostname}")
        self._slow = RepeatedFault(logger, "mqtt sink does not keep up, values dropped")

    async def __aenter__(self) -> Self:
        """Subscribe to what comes in."""
        self._fanout.subscribe(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Take nothing more."""
        self._fanout.unsubscribe(self)

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:  # noqa: ARG002
        """Keep a block for the broker; never waits for it."""
        if len(self._waiting) >= MAX_WAITING:
            self.dropped_count += len(self._waiting.popleft())
            self._slow.failed(f"{self.dropped_count} so far")
        self._waiting.append(readings)
        self._filled.set()

    async def run(self) -> None:
        """Publish until cancelled; a broker that is away is tried again."""
        import aiomqtt  # late: most clouds have no such broker

        backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        while True:
            try:
                async with aiomqtt.Client(
                    self._parts.hostname or "",
                    self._parts.port or (8883 if self._parts.scheme == "mqtts" else 1883),
                    username=unquote(self._parts.username) if self._parts.username else None,
                    password=unquote(self._parts.password) if self._parts.password else None,
                    tls_params=aiomqtt.TLSParameters() if self._parts.scheme == "mqtts" else None,
                ) as client:
                    self._fault.cleared()
                    backoff.reset()
                    while True:
                        await self._filled.wait()
                        while self._waiting:
                            for topic, payload in messages(self._prefix, self._waiting.popleft()):
                                await client.publish(topic, payload)
                        self._filled.clear()
                        self._slow.cleared()
            except aiomqtt.MqttError as exc:
                self._fault.failed(f"{exc}; trying again")
                await asyncio.sleep(backoff.next_delay_s())


def messages(prefix: str, readings: Readings) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload for each device of a block."""
    rows: dict[str, list[tuple[str, int, object]]] = {}
    for place, time_ms, value in zip(readings.series, readings.times, readings.values, strict=True):
        device, prop = readings.names[place]
        rows.setdefault(device, []).append((prop, time_ms, value))
    for device, values in rows.items():
        yield f"{prefix}/{device}", msgspec.json.encode({"values": values})
