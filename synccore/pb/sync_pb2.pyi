from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_CONTROL: _ClassVar[Lane]
    LANE_PODS: _ClassVar[Lane]
    LANE_TWINS: _ClassVar[Lane]
    LANE_SAMPLES: _ClassVar[Lane]

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_NONE: _ClassVar[Compression]
    COMPRESSION_ZLIB: _ClassVar[Compression]
LANE_CONTROL: Lane
LANE_PODS: Lane
LANE_TWINS: Lane
LANE_SAMPLES: Lane
COMPRESSION_NONE: Compression
COMPRESSION_ZLIB: Compression

class EdgeMessage(_message.Message):
    __slots__ = ("hello", "inventory", "frame", "ack", "ping", "pong", "close", "tunnel_opened", "tunnel_bytes", "tunnel_closed", "rejected", "tunnel_credit", "ask", "summary")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_OPENED_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_CLOSED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    inventory: Inventory
    frame: Frame
    ack: Ack
    ping: Ping
    pong: Pong
    close: Close
    tunnel_opened: TunnelOpened
    tunnel_bytes: TunnelBytes
    tunnel_closed: TunnelClosed
    rejected: Rejected
    tunnel_credit: TunnelCredit
    ask: Ask
    summary: Summary
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., inventory: _Optional[_Union[Inventory, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., tunnel_opened: _Optional[_Union[TunnelOpened, _Mapping]] = ..., tunnel_bytes: _Optional[_Union[TunnelBytes, _Mapping]] = ..., tunnel_closed: _Optional[_Union[TunnelClosed, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., tunnel_credit: _Optional[_Union[TunnelCredit, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ...) -> None: ...

class CloudMessage(_message.Message):
    __slots__ = ("welcome", "frame", "ack", "ping", "pong", "synced", "close", "tunnel_open", "tunnel_bytes", "tunnel_closed", "report_all", "tunnel_credit", "answer", "wanted")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_OPEN_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_CLOSED_FIELD_NUMBER: _ClassVar[int]
    REPORT_ALL_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    frame: Frame
    ack: Ack
    ping: Ping
    pong: Pong
    synced: Synced
    close: Close
    tunnel_open: TunnelOpen
    tunnel_bytes: TunnelBytes
    tunnel_closed: TunnelClosed
    report_all: ReportAll
    tunnel_credit: TunnelCredit
    answer: Answer
    wanted: Wanted
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., synced: _Optional[_Union[Synced, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., tunnel_open: _Optional[_Union[TunnelOpen, _Mapping]] = ..., tunnel_bytes: _Optional[_Union[TunnelBytes, _Mapping]] = ..., tunnel_closed: _Optional[_Union[TunnelClosed, _Mapping]] = ..., report_all: _Optional[_Union[ReportAll, _Mapping]] = ..., tunnel_credit: _Optional[_Union[TunnelCredit, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., wanted: _Optional[_Union[Wanted, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "node_name", "database_id", "digest", "record_count", "agent_version", "boot_id", "fork", "horizon")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    DATABASE_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    node_name: str
    database_id: bytes
    digest: bytes
    record_count: int
    agent_version: str
    boot_id: str
    fork: int
    horizon: int
    def __init__(self, protocol: _Optional[int] = ..., node_name: _Optional[str] = ..., database_id: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., record_count: _Optional[int] = ..., agent_version: _Optional[str] = ..., boot_id: _Optional[str] = ..., fork: _Optional[int] = ..., horizon: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "in_sync", "heartbeat_ms", "window_frames", "max_frame_bytes", "session_id", "spread_ms", "horizon")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    IN_SYNC_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SPREAD_MS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    in_sync: bool
    heartbeat_ms: int
    window_frames: int
    max_frame_bytes: int
    session_id: str
    spread_ms: int
    horizon: int
    def __init__(self, protocol: _Optional[int] = ..., in_sync: _Optional[bool] = ..., heartbeat_ms: _Optional[int] = ..., window_frames: _Optional[int] = ..., max_frame_bytes: _Optional[int] = ..., session_id: _Optional[str] = ..., spread_ms: _Optional[int] = ..., horizon: _Optional[int] = ...) -> None: ...

class Inventory(_message.Message):
    __slots__ = ("entries", "last")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    entries: bytes
    last: bool
    def __init__(self, entries: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: bytes
    def __init__(self, digests: _Optional[bytes] = ...) -> None: ...

class Wanted(_message.Message):
    __slots__ = ("buckets",)
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    buckets: bytes
    def __init__(self, buckets: _Optional[bytes] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("lane", "number", "batch", "compression", "raw_bytes", "horizon")
    LANE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    RAW_BYTES_FIELD_NUMBER: _ClassVar[int]
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    lane: Lane
    number: int
    batch: bytes
    compression: Compression
    raw_bytes: int
    horizon: int
    def __init__(self, lane: _Optional[_Union[Lane, str]] = ..., number: _Optional[int] = ..., batch: _Optional[bytes] = ..., compression: _Optional[_Union[Compression, str]] = ..., raw_bytes: _Optional[int] = ..., horizon: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("lane", "number")
    LANE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    lane: Lane
    number: int
    def __init__(self, lane: _Optional[_Union[Lane, str]] = ..., number: _Optional[int] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("lane", "kind", "namespace", "name", "version", "change_id", "reason")
    LANE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lane: Lane
    kind: str
    namespace: str
    name: str
    version: int
    change_id: int
    reason: str
    def __init__(self, lane: _Optional[_Union[Lane, str]] = ..., kind: _Optional[str] = ..., namespace: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., change_id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Synced(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportAll(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ask(_message.Message):
    __slots__ = ("id", "kind", "body")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: str
    body: bytes
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "status", "body")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    id: int
    status: int
    body: bytes
    def __init__(self, id: _Optional[int] = ..., status: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("number", "spread_ms", "late")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SPREAD_MS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    number: int
    spread_ms: int
    late: bool
    def __init__(self, number: _Optional[int] = ..., spread_ms: _Optional[int] = ..., late: _Optional[bool] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("code", "reason", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    retry_after_ms: int
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class TunnelOpen(_message.Message):
    __slots__ = ("stream_id", "target")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    target: str
    def __init__(self, stream_id: _Optional[int] = ..., target: _Optional[str] = ...) -> None: ...

class TunnelOpened(_message.Message):
    __slots__ = ("stream_id", "error", "code")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    error: str
    code: str
    def __init__(self, stream_id: _Optional[int] = ..., error: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class TunnelBytes(_message.Message):
    __slots__ = ("stream_id", "content", "end")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    content: bytes
    end: bool
    def __init__(self, stream_id: _Optional[int] = ..., content: _Optional[bytes] = ..., end: _Optional[bool] = ...) -> None: ...

class TunnelCredit(_message.Message):
    __slots__ = ("stream_id", "size_bytes")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    size_bytes: int
    def __init__(self, stream_id: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TunnelClosed(_message.Message):
    __slots__ = ("stream_id", "error")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    error: str
    def __init__(self, stream_id: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...
