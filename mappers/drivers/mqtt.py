"""`mqtt`: devices that speak MQTT in topics and payloads of their own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import aiomqtt
import msgspec

from mappers.sdk import (
    DeviceUnreachableError,
    Driver,
    Point,
    PointFault,
    Report,
    Value,
    WriteRefusedError,
)
from mappers.sdk.jsonpath import pick, steps_of
from mappers.sdk.transforms import Transform, apply, undo
from mappers.sdk.values import text_of_value

CONNECT_TIMEOUT_S = 10
_SWITCH = {"true": True, "on": True, "1": True, "yes": True}
_SWITCH |= {"false": False, "off": False, "0": False, "no": False}


class MqttConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Shapes: url: mqtt:// or mqtts://[user:password@]host[:port]. caFile: for mqtts, empty: the system's."""

    url: str
    client_id: str = ""
    qos: Literal[0, 1, 2] = 1
    ca_file: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no address of a broker."""
        url = urlsplit(self.url)
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname:
            raise ValueError(f"url {self.url!r} is not mqtt://host or mqtts://host")
        _ = url.port  # raises ValueError


class MqttPoint(Transform, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shapes: topic: where the device says it; path: within a JSON payload, `a.b[0]`. writeTopic, writeTemplate:
    where and as what it is told, `{value}` in it is the value as text, `{json}` as JSON.
    """

    topic: str = ""
    path: str = ""
    write_topic: str = ""
    write_template: str = "{value}"
    retain: bool = False

    def __post_init__(self) -> None:
        """Refuse a path or topics that are none. Raises: ValueError."""
        steps_of(self.path)
        if self.topic:
            aiomqtt.Wildcard(self.topic)
        if self.write_topic:
            aiomqtt.Topic(self.write_topic)


class MqttDriver(Driver[MqttConfig, MqttPoint]):
    """One device behind a broker; it is online while the broker is there."""

    Config, PointConfig = MqttConfig, MqttPoint
    polls = False

    async def open(self) -> None:
        """Connect, and listen to all topics."""
        self._client = aiomqtt.Client(**self._address(), timeout=CONNECT_TIMEOUT_S)
        try:
            await self._client.__aenter__()
            topics = {p.config.topic for p in self.points.values() if p.config.topic}
            for topic in sorted(topics):
                await self._client.subscribe(topic, qos=self.config.qos)
        except aiomqtt.MqttError as exc:
            raise DeviceUnreachableError(self.device, f"broker {self._host}: {exc}") from exc

    async def listen(self, report: Report) -> None:
        """Report what comes in."""
        readers = [
            (point, point.config.topic, steps_of(point.config.path))
            for point in self.points.values()
            if point.config.topic
        ]
        try:
            async for message in self._client.messages:
                payload = message.payload
                raw = payload if isinstance(payload, bytes) else str(payload).encode()
                values: dict[str, Value | PointFault] = {}
                for point, topic, steps in readers:
                    if message.topic.matches(topic):
                        values[point.name] = _value(point, pick(raw, steps))
                report(values)
        except aiomqtt.MqttError as exc:
            raise DeviceUnreachableError(self.device, f"broker {self._host}: {exc}") from exc

    async def read(self, _points: Sequence[Point[MqttPoint]]) -> Mapping[str, Value | PointFault]:
        """Nothing can be asked for: the device speaks when it wants to."""
        return {}

    async def write(self, point: Point[MqttPoint], value: Value) -> None:
        """Publish the value; taken is what the broker has acknowledged."""
        config = point.config
        try:
            topic = str(aiomqtt.Topic(config.write_topic or config.topic))
            told = undo(config, value)
        except ValueError as exc:
            raise WriteRefusedError(self.device, str(exc)) from exc
        text = text_of_value(told)
        payload = config.write_template.replace("{value}", text).replace(
            "{json}", msgspec.json.encode(told).decode()
        )
        try:
            await self._client.publish(
                topic, payload.encode(), qos=self.config.qos, retain=config.retain
            )
        except aiomqtt.MqttError as exc:
            raise DeviceUnreachableError(self.device, f"broker {self._host}: {exc}") from exc

    async def close(self) -> None:
        """Leave the broker."""
        try:
            async with asyncio.timeout(1):
                await self._client.__aexit__(None, None, None)
        except (aiomqtt.MqttError, TimeoutError, AttributeError):
            return  # lost already, or never there

    def _address(self) -> dict[str, Any]:
        url = urlsplit(self.config.url)
        self._host = url.hostname or ""
        secure = url.scheme == "mqtts"
        options: dict[str, Any] = {
            "hostname": self._host,
            "port": url.port or (8883 if secure else 1883),
            "username": unquote(url.username) if url.username else None,
            "password": unquote(url.password) if url.password else None,
            "identifier": self.config.client_id or None,
        }
        if secure:
            options["tls_context"] = ssl.create_default_context(cafile=self.config.ca_file or None)
        return options


def _value(point: Point[MqttPoint], raw: Value | PointFault) -> Value | PointFault:
    """Return what the point says; devices write numbers and switches as texts too."""
    try:
        if isinstance(raw, str) and point.type in ("INT", "FLOAT", "DOUBLE"):
            raw = _number(raw)
        elif isinstance(raw, str) and point.type == "BOOLEAN":
            raw = _SWITCH[raw.strip().lower()]
        return raw if isinstance(raw, PointFault) else apply(point.config, raw)
    except (ValueError, KeyError, OverflowError):
        return PointFault(f"{str(raw)[:40]!r} is no {point.type}")


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
