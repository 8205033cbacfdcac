"""The specification of the compiled codec: entries of an inventory, and (below) batches of deltas."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from synccore.errors import FrameError

_ENTRY = Struct("<QQ")
_MASK = (1 << 64) - 1


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


def _check_whole(entries: bytes) -> None:
    if len(entries) % _ENTRY.size:
        raise FrameError("inventory is cut", len(entries) - len(entries) % _ENTRY.size)


def _mix(value: int) -> int:
    # The finalizer of splitmix64: every input bit moves every output bit.
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
