"""Where a mapper pushes every value beside the twin: the pushMethod of a property, as KubeEdge v1beta1 has it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from devicemodels.fields import FREE_FORM, INT32, doc

FreeForm = Annotated[dict[str, Any], FREE_FORM]
Port = Annotated[int, Meta(ge=0, le=65535)]


class Shape(Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Base of all objects here: immutable, camelCase outside, snake_case inside."""


class PushHttp(Shape, frozen=True):
    """Push values by HTTP."""

    host_name: str = ""
    port: Port = 0
    request_path: str = ""
    timeout: Annotated[int, Meta(ge=0)] = 0


class PushMqtt(Shape, frozen=True):
    """Push values by MQTT."""

    address: Annotated[str, doc("As in tcp://127.0.0.1:1883.")] = ""
    topic: str = ""
    qos: Annotated[int, INT32, Meta(ge=0, le=2)] = 0
    retained: bool = False


class PushOtel(Shape, frozen=True):
    """Push values by OpenTelemetry."""

    endpoint_url: str = field(default="", name="endpointURL")


class InfluxClient(Shape, frozen=True):
    """Where InfluxDB 2 is; the token comes from the mapper's environment."""

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
    anomaly_detection: Annotated[FreeForm, doc("What the mapper looks for in the values.")] = field(
        default_factory=dict
    )
