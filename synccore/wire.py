"""Messages to protobuf and back. Fields that protobuf fills with zero when absent are checked by the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from corekit.errors import ProtocolError
from synccore import messages as m
from synccore.pb import sync_pb2 as pb

# Of what a peer says for people to read; it ends in our log.
MAX_SPOKEN_CHARS = 512


class EmptyMessageError(ProtocolError):
    """The peer sent a message of a kind that this side does not know (a newer peer, or garbage)."""

    code = "UNKNOWN_MESSAGE"


def edge_to_wire(message: m.EdgeMessage) -> pb.EdgeMessage:
    """Return the protobuf form of what an edge sends."""
    field, encode = _FIELDS[type(message)]
    return pb.EdgeMessage(**{field: encode(message)})


def cloud_to_wire(message: m.CloudMessage) -> pb.CloudMessage:
    """Return the protobuf form of what the cloud sends."""
    field, encode = _FIELDS[type(message)]
    return pb.CloudMessage(**{field: encode(message)})


def from_wire(message: pb.EdgeMessage | pb.CloudMessage | None) -> Any:
    """Return the plain value of a protobuf message; None stands for bytes that are none.

    Raises:  ProtocolError: no known message in it, or a field out of its range.
    """
    if message is None:
        raise EmptyMessageError("bytes that are no message of this protocol")
    field = message.WhichOneof("message")
    decode = _DECODERS.get(field or "")
    if decode is None:
        raise EmptyMessageError("no message that this version knows")
    return decode(getattr(message, field))


def printable(text: str) -> str:
    """Return `text` fit for a line of a log: bounded, and without newlines or escapes of the peer's."""
    text = text[:MAX_SPOKEN_CHARS]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _compression(number: int) -> m.Compression:
    try:
        return m.Compression(number)
    except ValueError:
        raise EmptyMessageError(f"compression {number} is not known") from None


def _lane(number: int) -> m.Lane:
    try:
        return m.Lane(number)
    except ValueError:
        raise EmptyMessageError(f"lane {number} is not known") from None


_WIRE_LANES = {
    m.Lane.CONTROL: pb.LANE_CONTROL,
    m.Lane.PODS: pb.LANE_PODS,
    m.Lane.TWINS: pb.LANE_TWINS,
    m.Lane.SAMPLES: pb.LANE_SAMPLES,
}

_WIRE_COMPRESSIONS = {
    m.Compression.NONE: pb.COMPRESSION_NONE,
    m.Compression.ZLIB: pb.COMPRESSION_ZLIB,
}

_FIELDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    m.Hello: (
        "hello",
        lambda x: pb.Hello(
            protocol=x.protocol,
            node_name=x.node_name,
            database_id=x.database_id,
            digest=x.digest,
            record_count=x.record_count,
            agent_version=x.agent_version,
            boot_id=x.boot_id,
            fork=x.fork,
            horizon=x.horizon,
        ),
    ),
    m.Welcome: (
        "welcome",
        lambda x: pb.Welcome(
            protocol=x.protocol,
            in_sync=x.in_sync,
            heartbeat_ms=round(x.heartbeat_s * 1000),
            window_frames=x.window_frames,
            max_frame_bytes=x.max_frame_bytes,
            session_id=x.session_id,
            spread_ms=round(x.spread_s * 1000),
            horizon=x.horizon,
        ),
    ),
    m.Summary: ("summary", lambda x: pb.Summary(digests=x.digests)),
    m.Wanted: ("wanted", lambda x: pb.Wanted(buckets=x.buckets)),
    m.Inventory: ("inventory", lambda x: pb.Inventory(entries=x.entries, last=x.last)),
    m.Frame: (
        "frame",
        lambda x: pb.Frame(
            lane=_WIRE_LANES[x.lane],
            number=x.number,
            batch=x.batch,
            compression=_WIRE_COMPRESSIONS[x.compression],
            raw_bytes=x.raw_bytes,
            horizon=x.horizon,
        ),
    ),
    m.Ack: ("ack", lambda x: pb.Ack(lane=_WIRE_LANES[x.lane], number=x.number)),
    m.Rejected: (
        "rejected",
        lambda x: pb.Rejected(
            lane=_WIRE_LANES[x.lane],
            kind=x.key.kind,
            namespace=x.key.namespace,
            name=x.key.name,
            version=x.version,
            change_id=x.change_id,
            reason=printable(x.reason),
        ),
    ),
    m.Ask: ("ask", lambda x: pb.Ask(id=x.id, kind=x.kind, body=x.body)),
    m.Answer: ("answer", lambda x: pb.Answer(id=x.id, status=x.status, body=x.body)),
    m.Synced: ("synced", lambda _: pb.Synced()),
    m.ReportAll: ("report_all", lambda _: pb.ReportAll()),
    m.Ping: ("ping", lambda x: pb.Ping(number=x.number)),
    m.Pong: (
        "pong",
        lambda x: pb.Pong(number=x.number, spread_ms=round(x.spread_s * 1000), late=x.late),
    ),
    m.Close: (
        "close",
        lambda x: pb.Close(
            code=x.code, reason=x.reason, retry_after_ms=round(x.retry_after_s * 1000)
        ),
    ),
    m.TunnelOpen: ("tunnel_open", lambda x: pb.TunnelOpen(stream_id=x.stream_id, target=x.target)),
    m.TunnelOpened: (
        "tunnel_opened",
        lambda x: pb.TunnelOpened(stream_id=x.stream_id, error=printable(x.error), code=x.code),
    ),
    m.TunnelBytes: (
        "tunnel_bytes",
        lambda x: pb.TunnelBytes(stream_id=x.stream_id, content=x.content, end=x.end),
    ),
    m.TunnelCredit: (
        "tunnel_credit",
        lambda x: pb.TunnelCredit(stream_id=x.stream_id, size_bytes=x.size_bytes),
    ),
    m.TunnelClosed: (
        "tunnel_closed",
        lambda x: pb.TunnelClosed(stream_id=x.stream_id, error=printable(x.error)),
    ),
}

_DECODERS: dict[str, Callable[[Any], Any]] = {
    "hello": lambda x: m.Hello(
        node_name=x.node_name,
        database_id=x.database_id,
        digest=x.digest,
        record_count=x.record_count,
        agent_version=printable(x.agent_version),
        boot_id=printable(x.boot_id),
        protocol=x.protocol,
        fork=x.fork,
        horizon=x.horizon,
    ),
    "welcome": lambda x: m.Welcome(
        in_sync=x.in_sync,
        heartbeat_s=x.heartbeat_ms / 1000,
        window_frames=x.window_frames,
        session_id=printable(x.session_id),
        max_frame_bytes=x.max_frame_bytes,
        protocol=x.protocol,
        spread_s=x.spread_ms / 1000,
        horizon=x.horizon,
    ),
    "summary": lambda x: m.Summary(x.digests),
    "wanted": lambda x: m.Wanted(x.buckets),
    "inventory": lambda x: m.Inventory(entries=x.entries, last=x.last),
    "frame": lambda x: m.Frame(
        _lane(x.lane), x.number, x.batch, _compression(x.compression), x.raw_bytes, x.horizon
    ),
    "ack": lambda x: m.Ack(_lane(x.lane), x.number),
    "rejected": lambda x: m.Rejected(
        _lane(x.lane),
        m.ObjectKey(printable(x.kind), printable(x.namespace), printable(x.name)),
        x.version,
        x.change_id,
        printable(x.reason),
    ),
    "ask": lambda x: m.Ask(x.id, printable(x.kind), x.body),
    "answer": lambda x: m.Answer(x.id, x.status, x.body),
    "synced": lambda _: m.Synced(),
    "report_all": lambda _: m.ReportAll(),
    "ping": lambda x: m.Ping(x.number),
    "pong": lambda x: m.Pong(x.number, x.spread_ms / 1000, x.late),
    "close": lambda x: m.Close(printable(x.code), printable(x.reason), x.retry_after_ms / 1000),
    "tunnel_open": lambda x: m.TunnelOpen(x.stream_id, x.target),
    "tunnel_opened": lambda x: m.TunnelOpened(x.stream_id, printable(x.error), printable(x.code)),
    "tunnel_bytes": lambda x: m.TunnelBytes(x.stream_id, x.content, x.end),
    "tunnel_credit": lambda x: m.TunnelCredit(x.stream_id, x.size_bytes),
    "tunnel_closed": lambda x: m.TunnelClosed(x.stream_id, printable(x.error)),
}
