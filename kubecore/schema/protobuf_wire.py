"""Protobuf's wire format: numbered fields of a message, nothing of what they mean."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SIZES = {FIXED64: 8, FIXED32: 4}
# 64 bits in groups of seven.
_MAX_VARINT_BYTES = 10


class ProtobufError(ValueError):
    """The bytes are no message, or not one that is taken."""


def entries(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) in the order of the bytes: varints as int, everything else as bytes.

    Raises:  ProtobufError: truncated, or of a wire type that protobuf does not use any more (groups).
    """
    pos, end = 0, len(raw)
    while pos < end:
        tag, pos = varint(raw, pos)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, pos = varint(raw, pos)
            yield number, value
            continue
        if wire == BYTES:
            length, pos = varint(raw, pos)
        elif wire in _SIZES:
            length = _SIZES[wire]
        else:
            raise ProtobufError(f"wire type {wire} at byte {pos} is not known")
        if length > end - pos:
            raise ProtobufError(f"it is truncated at byte {pos}")
        yield number, raw[pos : pos + length]
        pos += length


def varint(raw: bytes, pos: int) -> tuple[int, int]:
    """Return the unsigned number at `pos`, and where the next one starts."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if pos + index >= len(raw):
            raise ProtobufError(f"it is truncated at byte {pos}")
        byte = raw[pos + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (1 << 64) - 1, pos + index + 1
    raise ProtobufError(f"the number at byte {pos} is longer than 64 bits")


def text_of(raw: bytes) -> str:
    """Return `raw` as text. Raises:  ProtobufError: it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        raise ProtobufError(f"a string in it is not UTF-8: {exc.reason}") from exc
