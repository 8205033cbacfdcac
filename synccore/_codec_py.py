"""The specification of the compiled codec: batches of deltas, and entries of an inventory.

Same names, same order of checks and same errors as `_codec.pyx`; docs/protocol.md 4 and 5 describe the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from synccore.errors import FrameError
from synccore.messages import (
    BATCH_FORMAT,
    MAX_BODY_BYTES,
    MAX_DELTAS_PER_FRAME,
    MAX_TEXT_BYTES,
    Delta,
    ObjectKey,
    Op,
)

_ENTRY = Struct("<QQ")
_VERSION = Struct("<Q")
_MASK = (1 << 64) - 1
_OPS = tuple(Op)


def encode_batch(deltas: Sequence[Delta]) -> bytes:
    """Return deltas as one batch: a format byte, then a record for each.

    Raises:  FrameError: a delta is outside the limits; `offset` is its place in `deltas`.
    """
    if len(deltas) > MAX_DELTAS_PER_FRAME:
        raise FrameError("too many deltas", MAX_DELTAS_PER_FRAME)
    out = bytearray([BATCH_FORMAT])
    for place, (op, key, uid, version, sequence, body, change_id) in enumerate(deltas):
        out.append(op)
        for text in (*key, uid):
            encoded = text.encode()
            if len(encoded) > MAX_TEXT_BYTES:
                raise FrameError("text is too long", place)
            _put_uvarint(out, len(encoded))
            out += encoded
        for number in (version, sequence, change_id):
            if not 0 <= number <= _MASK:
                raise FrameError("number is not unsigned 64 bits", place)
        out += _VERSION.pack(version)
        _put_uvarint(out, sequence)
        _put_uvarint(out, change_id)
        if len(body) > MAX_BODY_BYTES:
            raise FrameError("body is too long", place)
        _put_uvarint(out, len(body))
        out += body
    return bytes(out)


def decode_batch(batch: bytes) -> list[Delta]:
    """Return the deltas of a batch.

    Raises:  FrameError: `offset` is where the first bad record starts (0: the format byte).
    """
    if not batch or batch[0] != BATCH_FORMAT:
        raise FrameError("unknown batch format", 0)
    deltas: list[Delta] = []
    pos = 1
    while pos < len(batch):
        if len(deltas) == MAX_DELTAS_PER_FRAME:
            raise FrameError("too many deltas", pos)
        delta, pos = _get_delta(batch, pos)
        deltas.append(delta)
    return deltas


def pack_entries(entries: Sequence[tuple[int, int]]) -> bytes:
    """Return (key hash, version) pairs as 16-byte little-endian entries sorted by key hash."""
    return b"".join(_ENTRY.pack(hashed, version) for hashed, version in sorted(entries))


def digest_entries(entries: bytes) -> bytes:
    """Return the 16-byte order-free digest of an inventory: two sums, modulo 2**64, of mixed entries.

    Raises:  FrameError: the length is not a multiple of 16.
    """
    _check_whole(entries)
    first = second = 0
    for hashed, version in _ENTRY.iter_unpack(entries):
        mixed = _mix(hashed ^ _mix(version))
        first = (first + mixed) & _MASK
        second = (second + _mix(mixed ^ 0x9E3779B97F4A7C15)) & _MASK
    return _ENTRY.pack(first, second)


def diff_entries(local: bytes, remote: bytes) -> tuple[list[int], list[int]]:
    """Compare two sorted inventories; return (key hashes to send, key hashes the remote must forget).

    Raises:  FrameError: `remote` is cut or not strictly sorted; `offset` is where its bad entry starts.
    """
    _check_whole(remote)
    send, forget, pos, previous = [], [], 0, -1
    mine = list(_ENTRY.iter_unpack(local))
    for offset in range(0, len(remote), _ENTRY.size):
        hashed, version = _ENTRY.unpack_from(remote, offset)
        if hashed <= previous:
            raise FrameError("inventory is not sorted", offset)
        previous = hashed
        while pos < len(mine) and mine[pos][0] < hashed:
            send.append(mine[pos][0])
            pos += 1
        if pos == len(mine) or mine[pos][0] != hashed:
            forget.append(hashed)
            continue
        if mine[pos][1] != version:
            send.append(hashed)
        pos += 1
    send.extend(entry[0] for entry in mine[pos:])
    return send, forget


def _get_delta(batch: bytes, start: int) -> tuple[Delta, int]:
    if batch[start] >= len(_OPS):
        raise FrameError("unknown operation", start)
    pos, texts = start + 1, []
    for _ in range(4):
        text, pos = _get_text(batch, pos, start)
        texts.append(text)
    if len(batch) - pos < _VERSION.size:
        raise FrameError("record is cut", start)
    (version,) = _VERSION.unpack_from(batch, pos)
    sequence, pos = _get_uvarint(batch, pos + _VERSION.size, start)
    change_id, pos = _get_uvarint(batch, pos, start)
    length, pos = _get_uvarint(batch, pos, start)
    if length > MAX_BODY_BYTES:
        raise FrameError("body is too long", start)
    if length > len(batch) - pos:
        raise FrameError("record is cut", start)
    key, end = ObjectKey(texts[0], texts[1], texts[2]), pos + length
    op, body = _OPS[batch[start]], batch[pos:end]
    return Delta(op, key, texts[3], version, sequence, body, change_id), end


def _get_text(batch: bytes, pos: int, start: int) -> tuple[str, int]:
    length, pos = _get_uvarint(batch, pos, start)
    if length > MAX_TEXT_BYTES:
        raise FrameError("text is too long", start)
    if length > len(batch) - pos:
        raise FrameError("record is cut", start)
    try:
        return batch[pos : pos + length].decode(), pos + length
    except UnicodeDecodeError:
        raise FrameError("text is not UTF-8", start) from None


def _put_uvarint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _get_uvarint(batch: bytes, pos: int, start: int) -> tuple[int, int]:
    """Return (value, position after it); at most ten bytes, value below 2**64, errors name `start`."""
    value = shift = 0
    while True:
        if pos == len(batch):
            raise FrameError("record is cut", start)
        byte = batch[pos]
        pos += 1
        if shift == 63 and byte > 1:  # the tenth byte has room for one bit
            raise FrameError("number is too large", start)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7


def _check_whole(entries: bytes) -> None:
    if len(entries) % _ENTRY.size:
        raise FrameError("inventory is cut", len(entries) - len(entries) % _ENTRY.size)


def _mix(value: int) -> int:
    # The finalizer of splitmix64: every input bit moves every output bit.
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
