"""Inventories compared a part at a time: a few bytes for each bucket of records show which of them are worth listing.

Without it a node with 10,000 records lists 160 KB to learn that ten differ. A bucket holds the entries whose key
hashes begin with the same bits, so in a sorted inventory it is one piece. Pure; docs/protocol.md 3, "Summary".
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left

from synccore.codec import digest_entries
from synccore.errors import FrameError, LimitError

ENTRY_BYTES = 16
# Of a bucket's digest: two different buckets look equal once in 2^64.
DIGEST_BYTES = 8
# Records in a bucket, about. The summary costs half a byte a record, and each difference 256 bytes of inventory.
BUCKET_RECORDS = 16
# Below it the whole inventory is as small as a summary, and one round trip faster.
MIN_SUMMARIZED = 256
# Of 1,048,576 records, the most that an inventory can have.
MAX_BUCKETS = 1 << 16
MIN_BUCKETS = 8  # so that the buckets wanted are whole bytes


def summarize(entries: bytes) -> bytes:
    """Return 8 bytes for each bucket of a sorted inventory; a power of two of them."""
    wanted = len(entries) // ENTRY_BYTES // BUCKET_RECORDS
    count = max(MIN_BUCKETS, min(1 << max(wanted - 1, 0).bit_length(), MAX_BUCKETS))
    return b"".join(_digest(piece) for piece in _pieces(entries, count))


def differing(entries: bytes, summary: bytes) -> bytes:
    """Return, as bits, the buckets of a sorted inventory that differ from `summary`; all if none seems to.

    Shapes:  bit i % 8 of byte i / 8 is bucket i.
    Raises:  LimitError: no sender makes a summary of that length.
    """
    count = len(summary) // DIGEST_BYTES
    whole = count * DIGEST_BYTES == len(summary) and count & (count - 1) == 0
    if not whole or not MIN_BUCKETS <= count <= MAX_BUCKETS:
        raise LimitError("summary bytes", len(summary), MAX_BUCKETS * DIGEST_BYTES)
    wanted = bytearray(count // 8)
    for place, piece in enumerate(_pieces(entries, count)):
        start = place * DIGEST_BYTES
        if _digest(piece) != summary[start : start + DIGEST_BYTES]:
            wanted[place // 8] |= 1 << place % 8
    return bytes(wanted) if any(wanted) else b"\xff" * len(wanted)


def select(entries: bytes, wanted: bytes) -> bytes:
    """Return the entries of a sorted inventory that are in the buckets whose bits are set."""
    pieces = _pieces(entries, len(wanted) * 8)
    chosen = (piece for at, piece in enumerate(pieces) if wanted[at // 8] >> at % 8 & 1)
    return b"".join(chosen)


def check_wanted(wanted: bytes, summary: bytes) -> None:
    """Raise LimitError unless `wanted` has a bit for each bucket of `summary`."""
    buckets = len(summary) // DIGEST_BYTES
    if len(wanted) * 8 != buckets:
        raise LimitError("buckets wanted", len(wanted) * 8, buckets)


def check_selected(entries: bytes, wanted: bytes) -> None:
    """Raise FrameError if a sorted inventory has an entry outside of the buckets that were wanted."""
    if len(select(entries, wanted)) != len(entries):
        raise FrameError("an entry that was not wanted", 0)


def _digest(piece: bytes) -> bytes:
    return digest_entries(piece)[:DIGEST_BYTES]


def _pieces(entries: bytes, count: int) -> list[bytes]:
    hashes = array("Q", entries)
    if sys.byteorder == "big":
        hashes.byteswap()
    hashes = hashes[::2]
    shift = 65 - count.bit_length()  # of a power of two: 64 less its bits
    bounds = [bisect_left(hashes, number << shift) for number in range(count)]
    bounds.append(len(hashes))
    return [entries[bounds[n] * ENTRY_BYTES : bounds[n + 1] * ENTRY_BYTES] for n in range(count)]
