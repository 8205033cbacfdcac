"""MQTT packets that come and go at rate, many to a call; compiled, or the Python twin if SYNCCORE_PUREPY=1 asks for it."""

from __future__ import annotations

import os

if os.environ.get("SYNCCORE_PUREPY") == "1":
    from edgecore.eventbus._packets_py import encode_acks, encode_publishes, split_packets
else:  # no silent fallback: a missing extension is a broken install, not a slow one
    from edgecore.eventbus._packets import encode_acks, encode_publishes, split_packets

__all__ = ["cut_publish", "encode_acks", "encode_publishes", "packet_bytes", "split_packets"]


def packet_bytes(buf: bytes) -> int:
    """Return how long the packet at the beginning of `buf` is, head and all; 0: that is not there yet."""
    length = 0
    for place, byte in enumerate(buf[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return 2 + place + length
    return 0


def cut_publish(buf: bytes) -> bytes:
    """Return the packet that begins with `buf` as one that is whole, and ends where `buf` does.

    Shapes:  buf: at least 4 bytes, of a packet longer than that; at most 2 MiB.
    """
    body = buf[1 + _length_bytes(buf) :]
    length = len(body)
    coded = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14 & 0x7F])
    return buf[:1] + coded + body


def _length_bytes(buf: bytes) -> int:
    count = 1
    while buf[count] & 0x80:
        count += 1
    return count
