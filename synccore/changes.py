"""Names for changes: one number that the logs of both sides print, so that grep follows a change."""

from __future__ import annotations

_PER_MS_BITS = 12


class ChangeIds:
    """Numbers that grow and do not repeat, in one process or the next, while the clock does not go back.

    Time-based rather than random: they sort as they happened, and a number near it in a batch compresses.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now_ms: int) -> int:
        """Return the next number. Units: now_ms: Unix milliseconds."""
        self._last = max(self._last + 1, now_ms << _PER_MS_BITS)
        return self._last
