"""The component that publishes every value to an MQTT broker of the operator's, one message per device and block."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import msgspec

from cloudcore import metrics
from cloudcore.samples import BlockQueue, SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import MqttSinkSettings
from corekit.backoff import Backoff
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from synccore.series import Readings

if TYPE_CHECKING:
    import aiomqtt

logger = logging.getLogger(__name__)

# What waits for the broker: some ten seconds of a fast node, hours of a slow one. Full: the oldest blocks go, counted
# and said.
MAX_WAITING_BYTES = 32 << 20
# Messages that the broker has not acknowledged. More would wait in the client.
MAX_UNACKNOWLEDGED = 20
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
        self._waiting = BlockQueue(MAX_WAITING_BYTES)
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
        if dropped_count := sum(map(len, self._waiting.put(readings))):
            self.dropped_count += dropped_count
            metrics.values_dropped.labels("mqtt").inc(dropped_count)
            self._slow.failed(f"{self.dropped_count} so far")

    async def run(self) -> None:
        """Publish until cancelled; a broker that is away is tried again."""
        import aiomqtt  # late: most clouds have no such broker

        backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        while True:
            try:
                async with self._client() as client:
                    self._fault.cleared()
                    while True:
                        await self._publish(client, await self._waiting.first())
                        backoff.reset()  # not as it connects: it may refuse all that follows
                        if not self._waiting:
                            self._slow.cleared()
            except aiomqtt.MqttError as exc:
                self._fault.failed(f"{exc}; trying again")
                await asyncio.sleep(backoff.next_delay_s())

    def _client(self) -> aiomqtt.Client:
        import aiomqtt

        tls = self._parts.scheme == "mqtts"
        return aiomqtt.Client(
            self._parts.hostname or "",
            self._parts.port or (8883 if tls else 1883),
            username=unquote(self._parts.username) if self._parts.username else None,
            password=unquote(self._parts.password) if self._parts.password else None,
            tls_params=aiomqtt.TLSParameters() if tls else None,
        )

    async def _publish(self, client: aiomqtt.Client, readings: Readings) -> None:
        """Return once the broker has a block; one that it may not have is published again."""
        rest = messages(self._prefix, readings)
        while part := list(islice(rest, MAX_UNACKNOWLEDGED)):
            await asyncio.gather(
                *(client.publish(topic, payload, qos=1) for topic, payload in part)
            )
        self._waiting.done(readings)


def messages(prefix: str, readings: Readings) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload for each device of a block."""
    rows: dict[str, list[tuple[str, int, object]]] = {}
    for place, time_ms, value in zip(readings.series, readings.times, readings.values, strict=True):
        device, prop = readings.names[place]
        rows.setdefault(device, []).append((prop, time_ms, value))
    for device, values in rows.items():
        yield f"{prefix}/{device}", msgspec.json.encode({"values": values})
