"""The specification of the MQTT packet codec: `_packets.pyx` is its compiled twin, `packets.py` picks one.

Only what comes and goes at rate is here: PUBLISH at QoS 0 and 1, and PUBACK. Everything else is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecore.eventbus.packet_rules import (
    MAX_PACKET_ID,
    MAX_REMAINING_BYTES,
    MAX_TOPIC_BYTES,
    PacketError,
)

_PUBLISH, _PUBACK = 0x30, 0x40


def split_packets(
    buf: bytes, *, modern: bool
) -> tuple[list[tuple[str, bytes, int]], list[int], bytes, int]:
    """Take the whole packets at the beginning of `buf` apart.

    Shapes:  publishes: (topic, payload, packet id; 0 at QoS 0). acknowledged: packet ids of PUBACKs, whatever their reason.
             others: all other packets, byte for byte. consumed: bytes of whole packets. modern: MQTT 5, not 3.1.1.
    Raises:  PacketError: `offset` is where the first malformed packet starts.
    """
    publishes: list[tuple[str, bytes, int]] = []
    acknowledged: list[int] = []
    others: list[bytes] = []
    pos, end = 0, len(buf)
    while end - pos >= 2:
        start, head = pos, buf[pos]
        size = _uvarint(buf, pos + 1, end, start)
        if size is None:
            break
        length, pos = size
        if length > end - pos:
            pos = start
            break
        stop = pos + length
        if head & 0xF0 == _PUBLISH:
            publishes.append(_publish(buf, pos, stop, start, modern=modern))
        elif head == _PUBACK:
            if length < 2:
                raise PacketError("PUBACK without a packet id", start)
            acknowledged.append(buf[pos] << 8 | buf[pos + 1])
        else:
            others.append(buf[start:stop])
        pos = stop
    return publishes, acknowledged, b"".join(others), pos


def encode_publishes(
    messages: Sequence[tuple[str, bytes]], packet_ids: Sequence[int], *, modern: bool
) -> bytes:
    """Return one PUBLISH at QoS 1 for each of `messages`, which are (topic, payload).

    Raises:  PacketError: what the protocol cannot carry; `offset` is the message's place.
    """
    packets: list[bytes] = []
    if len(messages) != len(packet_ids):
        raise PacketError("not one packet id for each message", 0)
    for place, ((topic, payload), packet_id) in enumerate(zip(messages, packet_ids, strict=True)):
        name = topic.encode()
        if not 0 < len(name) <= MAX_TOPIC_BYTES:
            raise PacketError(f"a topic of {len(name)} bytes", place)
        if not 0 < packet_id <= MAX_PACKET_ID:
            raise PacketError("a packet id outside 1 to 65535", place)
        length = 4 + modern + len(name) + len(payload)
        if length >= 1 << 7 * MAX_REMAINING_BYTES:
            raise PacketError(f"a payload of {len(payload)} bytes", place)
        packets += [b"\x32", _encoded(length), len(name).to_bytes(2, "big"), name]
        packets += [packet_id.to_bytes(2, "big"), b"\x00" if modern else b"", payload]
    return b"".join(packets)


def encode_acks(packet_ids: Sequence[int]) -> bytes:
    """Return one PUBACK for each packet id. Raises: PacketError: `offset` is its place."""
    packets = []
    for place, packet_id in enumerate(packet_ids):
        if not 0 < packet_id <= MAX_PACKET_ID:
            raise PacketError("a packet id outside 1 to 65535", place)
        packets.append(b"\x40\x02" + packet_id.to_bytes(2, "big"))
    return b"".join(packets)


def _publish(
    buf: bytes, pos: int, stop: int, start: int, *, modern: bool
) -> tuple[str, bytes, int]:
    qos = buf[start] >> 1 & 3
    if qos > 1:
        raise PacketError("PUBLISH at a QoS that was not asked for", start)
    if stop - pos < 2:
        raise PacketError("PUBLISH without a topic", start)
    topic_bytes = buf[pos] << 8 | buf[pos + 1]
    pos += 2
    if topic_bytes > stop - pos:
        raise PacketError("PUBLISH with a cut topic", start)
    if not topic_bytes:
        raise PacketError("PUBLISH with an empty topic", start)
    # A broker should have refused what is no UTF-8; the topic is then none that is served, and so harmless.
    topic = buf[pos : pos + topic_bytes].decode(errors="replace")
    pos += topic_bytes
    packet_id = 0
    if qos:
        if stop - pos < 2:
            raise PacketError("PUBLISH without a packet id", start)
        packet_id = buf[pos] << 8 | buf[pos + 1]
        pos += 2
        if not packet_id:
            raise PacketError("PUBLISH with packet id 0", start)
    if modern:
        size = _uvarint(buf, pos, stop, start)
        if size is None or size[0] > stop - size[1]:
            raise PacketError("PUBLISH with cut properties", start)
        pos = size[0] + size[1]
    return topic, buf[pos:stop], packet_id


def _uvarint(buf: bytes, pos: int, end: int, start: int) -> tuple[int, int] | None:
    """Return a length and where it ends; None if the buffer ends before it does."""
    value = shift = 0
    while pos < end:
        byte = buf[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift == 7 * MAX_REMAINING_BYTES:
            raise PacketError("a length of more than four bytes", start)
    return None


def _encoded(length: int) -> bytes:
    coded = bytearray()
    while length > 0x7F:
        coded.append(length & 0x7F | 0x80)
        length >>= 7
    coded.append(length)
    return bytes(coded)
