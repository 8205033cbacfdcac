"""The vocabulary of the sync path: keys, deltas, and the messages of docs/protocol.md as plain values.

The gRPC shells translate these to and from protobuf; sessions and codec know nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

PROTOCOL_VERSION = 1
# Below gRPC's default of 4 MiB per message, above etcd's 1.5 MiB per object: one object always fits a frame.
MAX_FRAME_BYTES = 3 << 20
# A batch stays far below the frame limit, so that a lease never waits behind megabytes on a 32 kbit/s link.
BATCH_TARGET_BYTES = 64 << 10
# Of one lane, not compressed, that are not acknowledged: eight windows of full batches. With frames alone counted, a peer
# that sends the largest, which are small when compressed, would have 200 MiB held for it.
MAX_LANE_BYTES = 8 << 20
MAX_DELTAS_PER_FRAME = 4096
# First byte of every batch; another layout gets another number.
BATCH_FORMAT = 1
# Kubernetes names end at 253 bytes and uids at 36; twice that leaves room and bounds a lying length.
MAX_TEXT_BYTES = 512
MAX_BODY_BYTES = 2 << 20
# 16 bytes a record; 1 MiB pages hold 65,536 records, five times what one node was ever seen to hold.
MAX_INVENTORY_PAGE_BYTES = 1 << 20
MAX_INVENTORY_BYTES = 16 << 20
# A token is 2 KiB at most and a question less; on a slow link an answer of this size is seconds before a lease.
MAX_ASK_BYTES = 64 << 10
# Twice as many as pods start at once on a gateway; more is a loop.
MAX_OUTSTANDING_ASKS = 64
ASK_DEADLINE_S = 30.0


class ObjectKey(NamedTuple):
    """Kind, namespace ("" if cluster-scoped) and name of one record."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind} {self.name}"
        )


class Op(IntEnum):
    """What a delta does to its record."""

    UPSERT = 0
    TOMBSTONE = 1
    # Every one counts: an event, a sample. `sequence` with the database id makes it idempotent.
    APPEND = 2
    # A tombstone after a resync: the cloud knows the record by its key hash alone, carried in `version`.
    FORGET = 3


class Lane(IntEnum):
    """A class of traffic; a lower number goes first."""

    CONTROL = 0
    PODS = 1
    TWINS = 2
    SAMPLES = 3


class Compression(IntEnum):
    """How the batch of a frame is packed."""

    NONE = 0
    ZLIB = 1


class Delta(NamedTuple):
    """One change of one record.

    Shapes:  version: unsigned 64 bits, tells two states apart, not ordered downstream; upstream it grows
             with every change of the key within one database id. sequence: of an APPEND, else 0.
             body: JSON, empty in a tombstone. change_id: what logs on both sides print.
    """

    op: Op
    key: ObjectKey
    uid: str
    version: int
    sequence: int = 0
    body: bytes = b""
    change_id: int = 0


class State(Enum):
    """Of a session, at either end."""

    JOINING = "joining"  # the edge said Hello or is about to
    SYNCING = "syncing"  # digests differ: inventory and difference are on their way
    LIVE = "live"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of the edge: who it is and, in 16 bytes, what it has."""

    node_name: str
    database_id: bytes
    digest: bytes
    record_count: int
    agent_version: str
    boot_id: str
    protocol: int = PROTOCOL_VERSION
    fork: int = 0
    horizon: int = 0


@dataclass(frozen=True, slots=True)
class Welcome:
    """First message of the cloud: the terms of the session.

    Units:   spread_s: over how long all nodes should spread their first dials if this link is lost.
    """

    in_sync: bool
    heartbeat_s: float
    window_frames: int
    session_id: str
    max_frame_bytes: int = MAX_FRAME_BYTES
    protocol: int = PROTOCOL_VERSION
    spread_s: float = 0.0
    horizon: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """Sorted 16-byte entries (key hash, version), little-endian; `last` ends the listing."""

    entries: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """What the buckets of the inventory hold, in 8 bytes each, so that only those that differ need be listed."""

    digests: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bits of the buckets that the inventory should list."""

    buckets: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """A numbered, encoded batch of one lane.

    Shapes:  raw_bytes: length of the batch before it was compressed; 0 if it is not. horizon: downstream, how far the
             cloud had come when it read the batch; a number that only grows while the cluster's history goes on.
    """

    lane: Lane
    number: int
    batch: bytes
    compression: Compression = Compression.NONE
    raw_bytes: int = 0
    horizon: int = 0


@dataclass(frozen=True, slots=True)
class Ack:
    """All frames of `lane` up to `number` are durable beyond the receiver."""

    lane: Lane
    number: int


@dataclass(frozen=True, slots=True)
class Synced:
    """All differences of the resync have been sent."""


@dataclass(frozen=True, slots=True)
class ReportAll:
    """The cluster gave the node up and wrote states of its own over the node's: say everything again."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Edge to cloud: this record cannot be kept here; it was set aside and its frame is acknowledged."""

    lane: Lane
    key: ObjectKey
    version: int
    change_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Edge to cloud: answer this once; ids count from 1 in each session."""

    id: int
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Cloud to edge: the answer to the Ask of that id; `status` as HTTP's."""

    id: int
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer me."""

    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to the Ping of that number, and to all before it.

    Units:   spread_s: of the cloud: as in Welcome, as of now.
    Shapes:  late: its sender was busy, so the time that it took says nothing of the link.
    """

    number: int
    spread_s: float = 0.0
    late: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    """The sender ends the session; nothing follows."""

    code: str
    reason: str
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TunnelOpen:
    """Cloud to edge: open a byte stream to `target`, which is JSON."""

    stream_id: int
    target: str


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """Edge to cloud: it is open, or `error` says why not and `code` is a word for it."""

    stream_id: int
    error: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class TunnelBytes:
    """A piece of a byte stream, either way; `end`: nothing follows in this direction."""

    stream_id: int
    content: bytes
    end: bool = False


@dataclass(frozen=True, slots=True)
class TunnelCredit:
    """The sender takes this many bytes more of a stream."""

    stream_id: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TunnelClosed:
    """The sender has forgotten a byte stream, both directions; `error` is empty if nothing went wrong."""

    stream_id: int
    error: str = ""


TunnelMessage = TunnelOpen | TunnelOpened | TunnelBytes | TunnelCredit | TunnelClosed
EdgeMessage = (
    Hello
    | Summary
    | Inventory
    | Frame
    | Ack
    | Ping
    | Pong
    | Close
    | Rejected
    | Ask
    | TunnelOpened
    | TunnelBytes
    | TunnelCredit
    | TunnelClosed
)
CloudMessage = (
    Welcome
    | Wanted
    | Frame
    | Ack
    | Synced
    | ReportAll
    | Answer
    | Ping
    | Pong
    | Close
    | TunnelOpen
    | TunnelBytes
    | TunnelCredit
    | TunnelClosed
)
