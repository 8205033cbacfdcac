"""How far the cloud had come when it sent what is stored here: a number, stored with it, that the next Hello tells.

Without it a cloudcore that is a moment behind another one would take the node back to its own past: a pod that was
begun since would be ended, and begun again when it had caught up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edgecore.records import Commit

_NOTE = ("edgehub", "horizon")
_BYTES = 8


class NoteStore(Protocol):
    """The store, as far as this note needs it."""

    async def commit(self, commit: Commit) -> None:
        """Return once durable. Raises: StoreError."""

    async def local(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored."""


class Horizon:
    """`value`: what the Hello says; 0 until something was stored."""

    def __init__(self, store: NoteStore) -> None:
        self._store = store
        self.value = 0

    async def load(self) -> None:
        """Take up what was stored before this start."""
        found = (await self._store.local(_NOTE[0])).get(_NOTE[1], b"")
        self.value = int.from_bytes(found, "big") if len(found) == _BYTES else 0

    def note(self, value: int) -> Mapping[tuple[str, str], bytes | None]:
        """Return what a commit must hold for `value` to be stored, nothing if it need not be; then call `stored`.

        Never back, as frames of two lanes come in another order than they were read in.
        """
        return _row(value) if value > self.value else {}

    def stored(self, value: int) -> None:
        """Say that `value` is durable."""
        self.value = max(self.value, value)

    async def welcomed(self, value: int) -> None:
        """Go back to the cloud's own horizon if it lets us in with an older one: its history began again.

        Raises:  StoreError.
        """
        if 0 < value < self.value:
            await self._store.commit(Commit(local=_row(value)))
            self.value = value


def _row(value: int) -> Mapping[tuple[str, str], bytes | None]:
    return {_NOTE: value.to_bytes(_BYTES, "big")}
