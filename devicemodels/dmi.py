"""Devices and models as DMI messages, both ways; pure. The messages are KubeEdge's v1beta1 (docs/dmi.md).

The edge packs, a mapper unpacks. What a model says of protocol and visitors is a default: the device's own keys
replace it, one by one, before a mapper sees either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import DecodeError

from devicemodels.objects import (
    Device,
    DeviceModel,
    DeviceProperty,
    Visitor,
)
from devicemodels.pb import dmi_pb2 as pb
from devicemodels.push import FreeForm, PushMethod

# KubeEdge sends every number as a 32-bit float. Whole numbers that one cannot hold go as what they are.
MAX_FLOAT32_INT = 1 << 24
_WRAPPERS = (
    wrappers_pb2.StringValue,
    wrappers_pb2.BoolValue,
    wrappers_pb2.FloatValue,
    wrappers_pb2.DoubleValue,
    wrappers_pb2.Int32Value,
    wrappers_pb2.Int64Value,
)


@dataclass(frozen=True, slots=True)
class MappedProperty:
    """One property as a mapper gets it.

    Shapes:  desired: text, None if nothing is asked. config: visitors.configData, model and device merged.
    Units:   *_cycle_ms: 0: not said.
    """

    name: str
    desired: str | None = None
    config: FreeForm = field(default_factory=dict)
    collect_cycle_ms: int = 0
    report_cycle_ms: int = 0


@dataclass(frozen=True, slots=True)
class MappedDevice:
    """One device as a mapper gets it. Shapes: id: "namespace/name"; config: spec.protocol.configData."""

    id: str
    model: str
    protocol: str
    config: FreeForm
    properties: tuple[MappedProperty, ...]


@dataclass(frozen=True, slots=True)
class MappedType:
    """What a mapper knows of one property of a model; all texts, as in the object."""

    name: str
    type: str
    access_mode: str
    minimum: str = ""
    maximum: str = ""
    unit: str = ""


def pack_device(device: Device, model: DeviceModel, desired: Mapping[str, str]) -> pb.Device:
    """Return `device` for its mapper, with the defaults of `model`.

    Shapes:  desired: property -> what is asked of the device now; others are asked nothing.
    """
    spec, protocol = device.spec, device.spec.protocol
    name = (protocol.protocol_name if protocol else "") or model.spec.protocol
    config = {**model.spec.protocol_config_data, **(protocol.config_data if protocol else {})}
    report = spec.state_report
    return pb.Device(
        name=device.metadata.name,
        namespace=device.metadata.namespace,
        spec=pb.DeviceSpec(
            deviceModelReference=device.model_name,
            protocol=pb.ProtocolConfig(protocolName=name, configData=pack_config(config)),
            properties=[_pack_property(p, model, desired) for p in spec.properties],
            methods=[
                pb.DeviceMethod(
                    name=m.name, description=m.description, propertyNames=m.property_names
                )
                for m in spec.methods
            ],
        ),
        status=pb.DeviceStatus(
            reportToCloud=report.report_to_cloud if report else False,
            reportCycle=report.report_cycle if report else 0,
        ),
    )


def pack_model(model: DeviceModel) -> pb.DeviceModel:
    """Return `model` for a mapper."""
    return pb.DeviceModel(
        name=model.metadata.name,
        namespace=model.metadata.namespace,
        spec=pb.DeviceModelSpec(
            properties=[
                pb.ModelProperty(
                    name=p.name,
                    description=p.description,
                    type=p.type,
                    accessMode=p.access_mode,
                    minimum=p.minimum,
                    maximum=p.maximum,
                    unit=p.unit,
                )
                for p in model.spec.properties
            ]
        ),
    )


def pack_config(config: Mapping[str, Any]) -> pb.CustomizedValue:
    """Return free-form configuration; what is nested travels as its JSON text, which no wrapper could carry."""
    packed = pb.CustomizedValue()
    for key, value in config.items():
        if value is not None:
            packed.data[key].Pack(_wrapper(value))
    return packed


def unpack_device(device: pb.Device) -> MappedDevice:
    """Return what a mapper needs of `device`. Raises: ValueError: a configuration value is no known wrapper."""
    spec = device.spec
    return MappedDevice(
        f"{device.namespace}/{device.name}",
        f"{device.namespace}/{spec.deviceModelReference}",
        spec.protocol.protocolName,
        unpack_config(spec.protocol.configData.data),
        tuple(
            MappedProperty(
                p.name,
                p.desired.value if p.HasField("desired") else None,
                unpack_config(p.visitors.configData.data),
                p.collectCycle,
                p.reportCycle,
            )
            for p in spec.properties
        ),
    )


def unpack_model(model: pb.DeviceModel) -> dict[str, MappedType]:
    """Return the properties of `model` by name."""
    return {
        p.name: MappedType(p.name, p.type, p.accessMode, p.minimum, p.maximum, p.unit)
        for p in model.spec.properties
    }


def unpack_config(packed: Mapping[str, any_pb2.Any]) -> FreeForm:
    """Return free-form configuration as values. Raises: ValueError: naming the key."""
    return {key: _unwrapped(key, value) for key, value in packed.items()}


def _wrapper(value: Any) -> Any:
    if isinstance(value, str):
        return wrappers_pb2.StringValue(value=value)
    if isinstance(value, bool):
        return wrappers_pb2.BoolValue(value=value)
    if isinstance(value, int) and abs(value) > MAX_FLOAT32_INT:
        return wrappers_pb2.Int64Value(value=max(min(value, (1 << 63) - 1), -(1 << 63)))
    if isinstance(value, int | float):
        return wrappers_pb2.FloatValue(value=value)
    return wrappers_pb2.StringValue(value=msgspec.json.encode(value).decode())


def _unwrapped(key: str, value: any_pb2.Any) -> Any:
    for kind in _WRAPPERS:
        if value.Is(kind.DESCRIPTOR):
            message = kind()
            try:
                value.Unpack(message)
            except DecodeError as exc:
                raise ValueError(f"configData.{key}: {exc}") from exc
            is_float = isinstance(message, wrappers_pb2.FloatValue)
            return _digits(float(message.value)) if is_float else message.value
    raise ValueError(f"configData.{key}: {value.type_url or 'nothing'} is no known type of value")


def _digits(value: float) -> float:
    """Return the digits that a 32-bit float has, not those of the double next to it."""
    return value if value.is_integer() else float(f"{value:.7g}")


def _pack_property(
    prop: DeviceProperty, model: DeviceModel, desired: Mapping[str, str]
) -> pb.DeviceProperty:
    of_model = model.property(prop.name)
    name, config = _visitor(of_model.visitors if of_model else None, prop.visitors)
    packed = pb.DeviceProperty(
        name=prop.name,
        visitors=pb.VisitorConfig(protocolName=name, configData=pack_config(config)),
        reportCycle=prop.report_cycle,
        collectCycle=prop.collect_cycle,
        reportToCloud=prop.report_to_cloud,
    )
    if prop.name in desired:
        metadata = prop.desired.metadata if prop.desired else {}
        packed.desired.CopyFrom(pb.TwinProperty(value=desired[prop.name], metadata=metadata))
    if prop.push_method is not None:
        packed.pushMethod.CopyFrom(_pack_push(prop.push_method))
    return packed


def _visitor(model: Visitor | None, device: Visitor | None) -> tuple[str, FreeForm]:
    parts: Sequence[Visitor] = [part for part in (model, device) if part is not None]
    name = next((part.protocol_name for part in reversed(parts) if part.protocol_name), "")
    merged: FreeForm = {}
    for part in parts:
        merged |= part.config_data
    return name, merged


def _pack_push(push: PushMethod) -> pb.PushMethod:
    packed = pb.PushMethod()
    if (http := push.http) is not None:
        packed.http.CopyFrom(
            pb.PushMethodHTTP(
                hostname=http.host_name, port=http.port,
                requestpath=http.request_path, timeout=http.timeout,
            )
        )  # fmt: skip
    if (mqtt := push.mqtt) is not None:
        packed.mqtt.CopyFrom(
            pb.PushMethodMQTT(
                address=mqtt.address, topic=mqtt.topic, qos=mqtt.qos, retained=mqtt.retained
            )
        )
    if push.otel is not None:
        packed.otel.endpointURL = push.otel.endpoint_url
    if push.anomaly_detection:
        for key, value in pack_config(push.anomaly_detection).data.items():
            packed.anomalyDetection.data[key].CopyFrom(value)
    _pack_database(push, packed)
    return packed


def _pack_database(push: PushMethod, packed: pb.PushMethod) -> None:
    database = push.db_method
    if database is None:
        return
    if (influx := database.influxdb2) is not None:
        target = packed.dbMethod.influxdb2
        if (where := influx.client) is not None:
            target.influxdb2ClientConfig.CopyFrom(
                pb.Influxdb2ClientConfig(url=where.url, org=where.org, bucket=where.bucket)
            )
        if (what := influx.series) is not None:
            target.influxdb2DataConfig.CopyFrom(
                pb.Influxdb2DataConfig(
                    measurement=what.measurement, tag=what.tag, fieldKey=what.field_key
                )
            )
    if database.redis is not None and (redis := database.redis.client) is not None:
        packed.dbMethod.redis.redisClientConfig.CopyFrom(
            pb.RedisClientConfig(
                addr=redis.addr, db=redis.db,
                poolsize=redis.poolsize, minIdleConns=redis.min_idle_conns,
            )
        )  # fmt: skip
    if database.tdengine is not None and (tdengine := database.tdengine.client) is not None:
        packed.dbMethod.tdengine.tdEngineClientConfig.CopyFrom(
            pb.TDEngineClientConfig(addr=tdengine.addr, dbname=tdengine.db_name)
        )
    if database.mysql is not None and (mysql := database.mysql.client) is not None:
        packed.dbMethod.mysql.mysqlClientConfig.CopyFrom(
            pb.MySQLClientConfig(addr=mysql.addr, database=mysql.database, userName=mysql.user_name)
        )
