"""Device and DeviceModel of devices.kubeedge.io/v1beta1 as typed values, every field of the schema.

The annotations are the source of the CRDs and of docs/devices-reference.md: `python -m devicemodels.generate` writes
both. Decoding checks types and limits of single fields; what the values mean together is checked in
`devicemodels.rules`. Unknown fields are ignored, because a newer API may add some, and an agent in the field is
updated last.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from corekit.errors import EdgeError
from devicemodels.fields import (
    MAX_NAME_CHARS,
    MAX_NUMBER_CHARS,
    MAX_PROPERTIES,
    MAX_VALUE_CHARS,
    MILLISECONDS,
    NUMBER_PATTERN,
    PROPERTY_RULES,
    doc,
    map_list,
)
from devicemodels.push import FreeForm, PushMethod, Shape

API_VERSION = "devices.kubeedge.io/v1beta1"

ValueType = Literal["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "JSON", "STREAM"]
AccessMode = Literal["ReadWrite", "ReadOnly"]
ConflictRule = Literal["Cloud", "Edge", "Newest"]
PropertyName = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
Number = Annotated[str, Meta(max_length=MAX_NUMBER_CHARS)]
Text = Annotated[str, Meta(max_length=MAX_VALUE_CHARS)]


class ObjectDecodeError(EdgeError):
    """A Kubernetes object does not have the shape of its kind; `field` is the dotted path."""

    def __init__(self, kind: str, path: str, problem: str) -> None:
        self.kind, self.field, self.problem = kind, path, problem
        super().__init__(f"{kind}: {path}: {problem}" if path else f"{kind}: {problem}")


class Metadata(Shape, frozen=True):
    """The part of ObjectMeta that twins need."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    deletion_timestamp: str | None = None


class Visitor(Shape, frozen=True):
    """How a mapper reaches the property; on a device, key by key over what its model says."""

    protocol_name: str = ""
    config_data: Annotated[FreeForm, doc("The driver's business.")] = field(default_factory=dict)


class Reporting(Shape, frozen=True):
    """Which of the property's values are taken on by the edge node; without it every one is."""

    on_change: Annotated[bool, doc("Only a value that differs from the last one.")] = False
    dead_band: Annotated[
        str,
        Meta(max_length=MAX_NUMBER_CHARS, pattern=f"^$|{NUMBER_PATTERN}"),
        doc(
            "Only a number that differs from the last one by at least this, in the property's unit."
        ),
    ] = ""
    min_interval_milliseconds: Annotated[
        int, MILLISECONDS, doc("Not more often than this; the newest value is taken in the end.")
    ] = 0


class History(Shape, frozen=True):
    """Whether the property's values are kept for `kubectl edge twin history`."""

    keep_seconds: Annotated[
        int, Meta(ge=0, le=7 * 86400), doc("For how long; 0: not at all. At most a week.")
    ] = 0


class ModelProperty(Shape, frozen=True):
    """What can be read from a device of this model, or set on it."""

    name: Annotated[PropertyName, doc("Unique in the model.")] = ""
    description: str = ""
    type: Annotated[
        ValueType,
        doc("Type of the values. They are text in twins and on MQTT; the type says how they read."),
    ] = "STRING"
    access_mode: Annotated[
        AccessMode, doc("Whether a value can be desired (ReadWrite) or only reported (ReadOnly).")
    ] = "ReadWrite"
    minimum: Annotated[Number, doc("Least value of an INT, FLOAT or DOUBLE.")] = ""
    maximum: Annotated[Number, doc("Greatest value of an INT, FLOAT or DOUBLE.")] = ""
    unit: Annotated[str, doc("As it is printed after a value.")] = ""
    visitors: Visitor | None = None
    reporting: Reporting | None = None
    history: History | None = None


class ModelSpec(Shape, frozen=True):
    """What all devices of a model have in common."""

    properties: Annotated[
        tuple[Annotated[ModelProperty, PROPERTY_RULES], ...], map_list("name", most=MAX_PROPERTIES)
    ] = ()
    protocol: Annotated[str, doc("Name of the protocol that devices of this model speak.")] = ""
    protocol_config_data: Annotated[
        FreeForm, doc("Default of the devices' spec.protocol.configData.")
    ] = field(default_factory=dict)


class DeviceModel(Shape, frozen=True, dict=True):  # a dict for the cached index
    """A type of device. What all its devices have in common."""

    api_version: str = API_VERSION
    kind: str = "DeviceModel"
    metadata: Metadata = Metadata()
    spec: ModelSpec = ModelSpec()

    def property(self, name: str) -> ModelProperty | None:
        """Return the property called `name`, or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, ModelProperty]:
        # Backwards: of two with one name (which is refused in the cloud) the first one counts.
        return {p.name: p for p in reversed(self.spec.properties)}


class TwinValue(Shape, frozen=True):
    """A value as text, with text about it."""

    value: Annotated[Text, doc("The value; how it reads is the property's type in the model.")]
    metadata: Annotated[
        dict[str, str],
        doc(
            "`timestamp`: Unix milliseconds at which the value was asked for or got; `type`: its type."
        ),
    ] = field(default_factory=dict)


class DeviceProperty(Shape, frozen=True):
    """One property of this device: a name of its model, and what is particular here."""

    name: Annotated[PropertyName, doc("Name of a property of the model, unique here.")] = ""
    desired: Annotated[TwinValue | None, doc("The value that the property should have.")] = None
    visitors: Visitor | None = None
    report_cycle: Annotated[
        int, MILLISECONDS, doc("Milliseconds between two reports of the mapper.")
    ] = 0
    collect_cycle: Annotated[
        int, MILLISECONDS, doc("Milliseconds between two readings of the mapper.")
    ] = 0
    report_to_cloud: Annotated[bool, doc("Whether the mapper reports the property at all.")] = False
    push_method: PushMethod | None = None
    reporting: Annotated[Reporting | None, doc("In place of the model's.")] = None
    history: Annotated[History | None, doc("In place of the model's.")] = None
    conflict: Annotated[
        ConflictRule,
        doc(
            "Who wins if the property was changed in the cloud and at the edge while the link was cut, and whether "
            "the device is told again when somebody changes it by hand: Cloud (default), Edge, or Newest."
        ),
    ] = "Cloud"
    write_timeout_seconds: Annotated[
        int,
        Meta(ge=0, le=86400),
        doc("How long the device may take to answer a write before it is called expired; 0: 30."),
    ] = 0


class DeviceProtocol(Shape, frozen=True):
    """Which mapper drives the device, and how it is reached."""

    protocol_name: Annotated[str, doc("Name of the protocol, as the mapper has registered it.")] = (
        ""
    )
    config_data: Annotated[FreeForm, doc("The driver's business.")] = field(default_factory=dict)


class DeviceMethod(Shape, frozen=True):
    """A named group of writable properties."""

    name: str = ""
    description: str = ""
    property_names: tuple[str, ...] = ()


class StateReport(Shape, frozen=True):
    """How often the device's state goes to the cloud."""

    report_to_cloud: bool = False
    report_cycle: Annotated[
        int, MILLISECONDS, doc("Milliseconds between two reports of the device's state.")
    ] = 0


class Presence(Shape, frozen=True):
    """When a device counts as gone though it has not said so."""

    offline_after_seconds: Annotated[
        int, Meta(ge=0, le=7 * 86400), doc("Without a word from it; 0: never.")
    ] = 0


class ModelRef(Shape, frozen=True):
    """The DeviceModel, in the device's namespace."""

    name: str = ""


class DeviceSpec(Shape, frozen=True):
    """What a device is and should be."""

    device_model_ref: ModelRef | None = None
    node_name: Annotated[
        str,
        doc("The edge node that the device is attached to. Empty, and it is delivered nowhere."),
    ] = ""
    properties: Annotated[tuple[DeviceProperty, ...], map_list("name", most=MAX_PROPERTIES)] = ()
    protocol: DeviceProtocol | None = None
    methods: tuple[DeviceMethod, ...] = ()
    state_report: StateReport | None = None
    presence: Presence | None = None


class StatusTwin(Shape, frozen=True):
    """One property: what it is, what it should be, and what became of that."""

    property_name: str
    reported: Annotated[TwinValue | None, doc("What the device said last.")] = None
    observed_desired: Annotated[
        TwinValue | None, doc("What the edge node has taken of the desired value.")
    ] = None
    phase: Annotated[
        str,
        doc("What became of the desired value: Pending, Applied, Rejected, Expired or Drifted."),
    ] = ""
    reason: Annotated[str, doc("One word for why, for programs.")] = ""
    message: Annotated[str, doc("Why, for people.")] = ""
    since: Annotated[str, doc("Since when it has this phase.")] = ""


class Condition(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Accepted (the cloud can serve it), Online, or Synced (every desired value is applied)."""

    type: str
    status: Annotated[str, doc("True, False or Unknown.")]
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class DeviceStatus(Shape, frozen=True):
    """What is known of a device. Written by cloudcore."""

    # Fields with one writer each: twins, state: what the edge reports; conditions: the cloud's own judgement.
    twins: Annotated[tuple[StatusTwin, ...], map_list("propertyName")] = ()
    twins_generation: Annotated[
        int, doc("Generation of the spec that the twins' phases answer.")
    ] = 0
    state: Annotated[
        str,
        doc(
            "online, offline, ok, unknown or unhealthy, as the device, its mapper or its silence said."
        ),
    ] = ""
    last_online_time: Annotated[str, doc("When it was heard last, within a minute.")] = ""
    conditions: Annotated[tuple[Condition, ...], map_list("type")] = ()
    observed_generation: Annotated[
        int, doc("Generation of the spec that the conditions speak of.")
    ] = 0
    report_to_cloud: bool = False
    report_cycle: int = 0


class Device(Shape, frozen=True, dict=True):
    """One device. What it is, what it should be, and what it says it is."""

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

    def property(self, name: str) -> DeviceProperty:
        """Return what the device says of the property called `name`; the defaults if it says nothing."""
        return self._by_name.get(name) or DeviceProperty(name=name)

    @cached_property
    def _by_name(self) -> dict[str, DeviceProperty]:
        return {p.name: p for p in reversed(self.spec.properties)}


class ReportedTwin(Shape, frozen=True):
    """One property, as KubeEdge's controllers and dashboards read it."""

    property_name: str
    reported: Annotated[TwinValue | None, doc("What the device said last.")] = None
    observed_desired: Annotated[
        TwinValue | None, doc("What the edge node has taken of the desired value.")
    ] = None


class MirroredStatus(Shape, frozen=True):
    """What is known of the Device of the same name, in the form KubeEdge has it since 1.23. Written by cloudcore."""

    twins: Annotated[tuple[ReportedTwin, ...], map_list("propertyName")] = ()
    state: Annotated[str, doc("As in the Device's status.")] = ""
    last_online_time: Annotated[str, doc("As in the Device's status.")] = ""
    extensions: Annotated[FreeForm, doc("Somebody else's.")] = field(default_factory=dict)


class MirrorSpec(Shape, frozen=True):
    """Empty."""


class DeviceStatusObject(Shape, frozen=True):
    """Reported values of the Device of the same name and namespace, which owns this object."""

    api_version: str = API_VERSION
    kind: str = "DeviceStatus"
    metadata: Metadata = Metadata()
    spec: MirrorSpec = MirrorSpec()
    status: MirroredStatus = MirroredStatus()


Kind = type[Device] | type[DeviceModel] | type[DeviceStatusObject]
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
