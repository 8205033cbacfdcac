from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, devices: _Optional[_Iterable[str]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("device", "property", "since_ms", "until_ms", "newest_count")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROPERTY_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    device: str
    property: str
    since_ms: int
    until_ms: int
    newest_count: int
    def __init__(self, device: _Optional[str] = ..., property: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., newest_count: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("values", "missed")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    missed: int
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., missed: _Optional[int] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("device", "property", "time_ms", "number", "integer", "flag", "text")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROPERTY_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    device: str
    property: str
    time_ms: int
    number: float
    integer: int
    flag: bool
    text: str
    def __init__(self, device: _Optional[str] = ..., property: _Optional[str] = ..., time_ms: _Optional[int] = ..., number: _Optional[float] = ..., integer: _Optional[int] = ..., flag: _Optional[bool] = ..., text: _Optional[str] = ...) -> None: ...

class SeenRequest(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, devices: _Optional[_Iterable[str]] = ...) -> None: ...

class SeenReply(_message.Message):
    __slots__ = ("sightings",)
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    sightings: _containers.RepeatedCompositeFieldContainer[Sighting]
    def __init__(self, sightings: _Optional[_Iterable[_Union[Sighting, _Mapping]]] = ...) -> None: ...

class Sighting(_message.Message):
    __slots__ = ("device", "time_ms")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    device: str
    time_ms: int
    def __init__(self, device: _Optional[str] = ..., time_ms: _Optional[int] = ...) -> None: ...

class MessagesRequest(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class MessageBatch(_message.Message):
    __slots__ = ("messages", "missed")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[NodeMessage]
    missed: int
    def __init__(self, messages: _Optional[_Iterable[_Union[NodeMessage, _Mapping]]] = ..., missed: _Optional[int] = ...) -> None: ...

class NodeMessage(_message.Message):
    __slots__ = ("node", "topic", "time_ms", "payload")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    node: str
    topic: str
    time_ms: int
    payload: bytes
    def __init__(self, node: _Optional[str] = ..., topic: _Optional[str] = ..., time_ms: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...
