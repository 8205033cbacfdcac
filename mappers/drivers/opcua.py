"""`opcua`: nodes of an OPC UA server, all of them read in one request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec
from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError, UaStringParsingError

from mappers.sdk import (
    DeviceUnreachableError,
    Driver,
    Point,
    PointFault,
    Value,
    WriteRefusedError,
)
from mappers.sdk.transforms import Transform, apply, undo

# What says that the connection, and not one node, is the problem.
_LOST = (ConnectionError, TimeoutError, OSError, ua.uaerrors.BadConnectionClosed)


class OpcuaConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Shapes: url: opc.tcp://host:port/path. security: "Policy,Mode,certificate,key" as asyncua has it; empty: none.
    user: the password comes from the mapper's environment, OPCUA_PASSWORD. Units: timeoutS: of one request.
    """

    url: str
    security: str = ""
    user: str = ""
    timeout_s: float = 4.0


class OpcuaPoint(Transform, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shapes: nodeId: as OPC UA writes it, `ns=2;s=Boiler.Temperature`."""

    node_id: str

    def __post_init__(self) -> None:
        """Refuse what is no node id."""
        try:
            ua.NodeId.from_string(self.node_id)
        except UaStringParsingError as exc:
            raise ValueError(f"nodeId {self.node_id!r}: {exc}") from exc


class OpcuaDriver(Driver[OpcuaConfig, OpcuaPoint]):
    """One session with one server."""

    Config, PointConfig = OpcuaConfig, OpcuaPoint

    async def open(self) -> None:
        """Connect, and log in."""
        client = Client(self.config.url, timeout=self.config.timeout_s)
        try:
            if self.config.security:
                await client.set_security_string(self.config.security)
            if self.config.user:
                client.set_user(self.config.user)
                client.set_password(os.environ.get("OPCUA_PASSWORD", ""))
            await client.connect()
        except (*_LOST, UaError) as exc:
            raise DeviceUnreachableError(self.device, f"{self.config.url}: {exc!r}") from exc
        self._client = client
        self._nodes: dict[str, Node] = {
            name: client.get_node(point.config.node_id) for name, point in self.points.items()
        }
        self._types: dict[str, ua.VariantType] = {}

    async def read(self, points: Sequence[Point[OpcuaPoint]]) -> Mapping[str, Value | PointFault]:
        """Read all points at once; what one node refuses is that node's fault."""
        nodes = [self._nodes[point.name] for point in points]
        try:
            answers = await self._client.read_attributes(nodes, AttributeIds.Value)
        except (*_LOST, UaError) as exc:
            raise DeviceUnreachableError(self.device, repr(exc)) from exc
        return {p.name: self._value(p, a) for p, a in zip(points, answers, strict=True)}

    async def write(self, point: Point[OpcuaPoint], value: Value) -> None:
        """Write the value in the type that the node has."""
        node = self._nodes[point.name]
        try:
            kind = self._types.get(point.name) or await node.read_data_type_as_variant_type()
            raw = undo(point.config, value)
            if kind not in (ua.VariantType.Float, ua.VariantType.Double) and isinstance(raw, float):
                raw = round(raw)
            await node.write_value(ua.DataValue(ua.Variant(raw, kind)))
        except _LOST as exc:
            raise DeviceUnreachableError(self.device, repr(exc)) from exc
        except (UaError, ValueError, TypeError) as exc:
            problem = f"{point.config.node_id}: {exc or type(exc).__name__}"
            raise WriteRefusedError(self.device, problem) from exc

    async def close(self) -> None:
        """Log out."""
        client = getattr(self, "_client", None)
        if client is None:
            return
        try:
            await client.disconnect()
        except (*_LOST, UaError):
            return  # lost already

    def _value(self, point: Point[OpcuaPoint], answer: ua.DataValue) -> Value | PointFault:
        status = answer.StatusCode
        if status is not None and not status.is_good():
            return PointFault(f"{point.config.node_id}: {status.name}")
        if answer.Value is None:
            return PointFault(f"{point.config.node_id}: no value")
        self._types[point.name] = answer.Value.VariantType
        raw = answer.Value.Value
        if isinstance(raw, bool | int | float | str | bytes):
            return apply(point.config, raw)
        return str(raw)  # a time, a GUID, an array: as text
