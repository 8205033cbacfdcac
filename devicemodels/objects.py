"""Device and DeviceModel of devices.kubeedge.io/v1beta1 as typed values, every field of the schema.

Decoding checks types only; what the values mean is checked in `devicemodels.rules`. Unknown fields are
ignored, because a newer API may add some, and an agent in the field is updated last.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from corekit.errors import EdgeError

API_VERSION = "devices.kubeedge.io/v1beta1"

ValueType = Literal["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"]
AccessMode = Literal["ReadWrite", "ReadOnly"]
FreeForm = dict[str, Any]


class ObjectDecodeError(EdgeError):
    """A Kubernetes object does not have the shape of its kind; `field` is the dotted path."""

    def __init__(self, kind: str, path: str, problem: str) -> None:
        self.kind, self.field, self.problem = kind, path, problem
        super().__init__(f"{kind}: {path}: {problem}" if path else f"{kind}: {problem}")


class Shape(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of everything below: immutable, camelCase outside, snake_case inside."""


class Metadata(Shape, frozen=True):
    """The part of ObjectMeta that twins need."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    deletion_timestamp: str | None = None


class Visitor(Shape, frozen=True):
    """How a mapper reaches one property; `config_data` is the driver's business."""

    protocol_name: str = ""
    config_data: FreeForm = field(default_factory=dict)


class ModelProperty(Shape, frozen=True):
    """One property of a device model."""

    name: str = ""
    description: str = ""
    type: ValueType = "STRING"
    access_mode: AccessMode = "ReadWrite"
    minimum: str = ""
    maximum: str = ""
    unit: str = ""
    visitors: Visitor | None = None


class ModelSpec(Shape, frozen=True):
    """What all devices of a model have in common."""

    properties: tuple[ModelProperty, ...] = ()
    protocol: str = ""
    protocol_config_data: FreeForm = field(default_factory=dict)


class DeviceModel(Shape, frozen=True):
    """A type of device."""

    api_version: str = API_VERSION
    kind: str = "DeviceModel"
    metadata: Metadata = Metadata()
    spec: ModelSpec = ModelSpec()

    def property(self, name: str) -> ModelProperty | None:
        """Return the property called `name`, or None."""
        return next((p for p in self.spec.properties if p.name == name), None)


class PushHttp(Shape, frozen=True):
    """Push values by HTTP."""

    host_name: str = ""
    port: int = 0
    request_path: str = ""
    timeout: int = 0


class PushMqtt(Shape, frozen=True):
    """Push values by MQTT."""

    address: str = ""
    topic: str = ""
    qos: int = 0
    retained: bool = False


class PushOtel(Shape, frozen=True):
    """Push values by OpenTelemetry."""

    endpoint_url: str = field(default="", name="endpointURL")


class InfluxClient(Shape, frozen=True):
    """Where InfluxDB 2 is."""

    url: str = ""
    org: str = ""
    bucket: str = ""


class InfluxSeries(Shape, frozen=True):
    """What is written into InfluxDB 2."""

    measurement: str = ""
    tag: dict[str, str] = field(default_factory=dict)
    field_key: str = ""


class PushInflux(Shape, frozen=True):
    """Push values into InfluxDB 2."""

    client: InfluxClient | None = field(default=None, name="influxdb2ClientConfig")
    series: InfluxSeries | None = field(default=None, name="influxdb2DataConfig")


class RedisClient(Shape, frozen=True):
    """Where Redis is."""

    addr: str = ""
    db: int = 0
    poolsize: int = 0
    min_idle_conns: int = 0


class PushRedis(Shape, frozen=True):
    """Push values into Redis."""

    client: RedisClient | None = field(default=None, name="redisClientConfig")


class TdengineClient(Shape, frozen=True):
    """Where TDengine is."""

    addr: str = ""
    db_name: str = ""


class PushTdengine(Shape, frozen=True):
    """Push values into TDengine."""

    client: TdengineClient | None = field(default=None, name="TDEngineClientConfig")


class MysqlClient(Shape, frozen=True):
    """Where MySQL is; the password comes from the mapper's environment."""

    addr: str = ""
    database: str = ""
    user_name: str = ""


class PushMysql(Shape, frozen=True):
    """Push values into MySQL."""

    client: MysqlClient | None = field(default=None, name="mysqlClientConfig")


class PushDatabase(Shape, frozen=True):
    """Push values into one of the known databases."""

    influxdb2: PushInflux | None = None
    redis: PushRedis | None = None
    tdengine: PushTdengine | None = field(default=None, name="TDEngine")
    mysql: PushMysql | None = None


class PushMethod(Shape, frozen=True):
    """Where a mapper pushes every value, beside the twin."""

    http: PushHttp | None = None
    mqtt: PushMqtt | None = None
    otel: PushOtel | None = None
    db_method: PushDatabase | None = None
    anomaly_detection: FreeForm = field(default_factory=dict)


class TwinValue(Shape, frozen=True):
    """A value on the KubeEdge-compatible wires: always text, with text metadata."""

    value: str
    metadata: dict[str, str] = field(default_factory=dict)


class DeviceProperty(Shape, frozen=True):
    """One property of one device."""

    name: str = ""
    desired: TwinValue | None = None
    visitors: Visitor | None = None
    report_cycle: int = 0  # ms
    collect_cycle: int = 0  # ms
    report_to_cloud: bool = False
    push_method: PushMethod | None = None


class DeviceProtocol(Shape, frozen=True):
    """Which mapper drives the device, and how it is reached."""

    protocol_name: str = ""
    config_data: FreeForm = field(default_factory=dict)


class DeviceMethod(Shape, frozen=True):
    """A named group of writable properties."""

    name: str = ""
    description: str = ""
    property_names: tuple[str, ...] = ()


class StateReport(Shape, frozen=True):
    """How often the device's state goes to the cloud."""

    report_to_cloud: bool = False
    report_cycle: int = 0  # ms


class ModelRef(Shape, frozen=True):
    """The device model, in the device's namespace."""

    name: str = ""


class DeviceSpec(Shape, frozen=True):
    """What a device is and should be."""

    device_model_ref: ModelRef | None = None
    node_name: str = ""
    properties: tuple[DeviceProperty, ...] = ()
    protocol: DeviceProtocol | None = None
    methods: tuple[DeviceMethod, ...] = ()
    state_report: StateReport | None = None


class StatusTwin(Shape, frozen=True):
    """One property in `status.twins`."""

    property_name: str
    reported: TwinValue | None = None
    observed_desired: TwinValue | None = None


class Condition(Shape, frozen=True):
    """As metav1.Condition."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class DeviceStatus(Shape, frozen=True):
    """What is known of a device. Fields with one writer each: twins, state: edge; conditions: cloud."""

    twins: tuple[StatusTwin, ...] = ()
    state: str = ""
    last_online_time: str = ""
    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    report_to_cloud: bool = False
    report_cycle: int = 0


class Device(Shape, frozen=True):
    """One device."""

    api_version: str = API_VERSION
    kind: str = "Device"
    metadata: Metadata = Metadata()
    spec: DeviceSpec = DeviceSpec()
    status: DeviceStatus = DeviceStatus()

    @property
    def id(self) -> str:
        """`namespace/name`, as in MQTT topics and errors."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def model_name(self) -> str:
        """Name of the device model, or empty."""
        return self.spec.device_model_ref.name if self.spec.device_model_ref else ""


T = TypeVar("T", Device, DeviceModel)
_DEVICES = msgspec.json.Decoder(Device)
_MODELS = msgspec.json.Decoder(DeviceModel)


def decode_device(body: bytes) -> Device:
    """Return the Device in a JSON body.

    Raises:  ObjectDecodeError: naming the first field with a wrong type.
    """
    return _decode(_DEVICES, "Device", body)


def decode_model(body: bytes) -> DeviceModel:
    """Return the DeviceModel in a JSON body.

    Raises:  ObjectDecodeError: naming the first field with a wrong type.
    """
    return _decode(_MODELS, "DeviceModel", body)


def _decode(decoder: msgspec.json.Decoder[T], kind: str, body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$")
        raise ObjectDecodeError(kind, where.strip("`."), problem) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ObjectDecodeError(kind, "", f"is not usable JSON: {exc}") from exc
