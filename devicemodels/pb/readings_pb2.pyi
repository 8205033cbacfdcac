from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Series(_message.Message):
    __slots__ = ("device", "property")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROPERTY_FIELD_NUMBER: _ClassVar[int]
    device: str
    property: str
    def __init__(self, device: _Optional[str] = ..., property: _Optional[str] = ...) -> None: ...

class ReadingBatch(_message.Message):
    __slots__ = ("named", "series", "times_ms", "numbers", "texts", "overtaken")
    NAMED_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    TIMES_MS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    OVERTAKEN_FIELD_NUMBER: _ClassVar[int]
    named: _containers.RepeatedCompositeFieldContainer[Series]
    series: bytes
    times_ms: bytes
    numbers: bytes
    texts: _containers.RepeatedScalarFieldContainer[str]
    overtaken: int
    def __init__(self, named: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., series: _Optional[bytes] = ..., times_ms: _Optional[bytes] = ..., numbers: _Optional[bytes] = ..., texts: _Optional[_Iterable[str]] = ..., overtaken: _Optional[int] = ...) -> None: ...

class BatchTaken(_message.Message):
    __slots__ = ("taken", "refused", "reason")
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    taken: int
    refused: int
    reason: str
    def __init__(self, taken: _Optional[int] = ..., refused: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
