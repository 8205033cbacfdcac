"""Which records a side holds, in two 64-bit numbers each: the basis of digest, inventory and difference.

The key hash covers kind, namespace and name; the version covers the uid and the body. Both are BLAKE2b cut
to 64 bits: at 10,000 records a chance collision has odds of 1 to 10^11, and uids are not a user's to choose.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from synccore.buckets import check_selected, select
from synccore.codec import diff_entries, digest_entries, pack_entries
from synccore.messages import ObjectKey


class Difference(NamedTuple):
    """What makes a remote side equal to this one."""

    send: list[ObjectKey]  # missing there, or another version
    forget: list[int]  # key hashes of what it must drop


def key_hash(key: ObjectKey) -> int:
    """Return the 64-bit hash of a key. NUL cannot occur in any part, so joining is unambiguous."""
    return int.from_bytes(blake2b("\0".join(key).encode(), digest_size=8).digest(), "little")


def record_version(uid: str, body: bytes) -> int:
    """Return the 64-bit version of a downstream record."""
    hashed = blake2b(uid.encode(), digest_size=8)
    hashed.update(b"\0")
    hashed.update(body)
    return int.from_bytes(hashed.digest(), "little")


class RecordIndex:
    """Keys and versions of all records one side holds."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[ObjectKey, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: ObjectKey, version: int) -> None:
        """Add or replace."""
        self._entries[key_hash(key)] = (key, version)

    def drop(self, key: ObjectKey) -> None:
        """Remove if there."""
        self._entries.pop(key_hash(key), None)

    def version(self, key: ObjectKey) -> int | None:
        """Return the version held, or None."""
        held = self._entries.get(key_hash(key))
        return held[1] if held else None

    def key_of(self, hashed: int) -> ObjectKey | None:
        """Return the key behind a key hash, or None if it is not held."""
        held = self._entries.get(hashed)
        return held[0] if held else None

    def keys(self) -> list[ObjectKey]:
        """Return all keys held."""
        return [key for key, _ in self._entries.values()]

    def entries(self) -> bytes:
        """Return the inventory: 16 bytes a record, (key hash, version) little-endian, by key hash."""
        return pack_entries([(hashed, held[1]) for hashed, held in self._entries.items()])

    def digest(self) -> bytes:
        """Return 16 bytes that are equal on two sides exactly if their records are."""
        return digest_entries(self.entries())

    def difference(self, remote: bytes, wanted: bytes = b"") -> Difference:
        """Return what to send and what to forget so that a side with inventory `remote` equals this one.

        Shapes:  wanted: bits of the buckets that `remote` lists; empty: it lists all.
        Raises:  FrameError: `remote` is not a sorted inventory, or lists what was not wanted.
        """
        local = self.entries()
        if wanted:
            check_selected(remote, wanted)
            local = select(local, wanted)
        send, forget = diff_entries(local, remote)
        return Difference([self._entries[hashed][0] for hashed in send], forget)
