"""What can be wrong with the file of kept values."""

from __future__ import annotations

from corekit.errors import StoreError


class HistoryDamagedError(StoreError):
    """The file is damaged, or not ours: it is moved aside and begun anew."""


class HistoryFullError(StoreError):
    """Nothing can be written now: the disk is full or refuses."""
