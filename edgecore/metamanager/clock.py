"""The database's own clock: the time it was in use, in milliseconds. No wrong date can move it."""

from __future__ import annotations

import time

from edgecore.metamanager.notes import CheckpointRepository, numbers


class DatabaseClock:
    """Counts transactions and time in use, and stores both with every transaction.

    Ages of rows come from it: a machine without a battery boots in 1970, and a jump to the right year must not
    make a day's readings ten years old. Time spent switched off is not counted.
    """

    def __init__(self, checkpoint: CheckpointRepository, *, serial: int = 0) -> None:
        self._checkpoint = checkpoint
        stored_serial, self._base_ms = numbers(checkpoint.all().get("clock", bytes(16)))
        self.serial = max(stored_serial, serial)
        self._started_s = time.monotonic()

    def now_ms(self) -> int:
        """Return the time in use; never 0."""
        return self._base_ms + int((time.monotonic() - self._started_s) * 1000) + 1

    def store(self) -> None:
        """Count a transaction."""
        self.serial += 1
        self._checkpoint.put_numbers("clock", self.serial, self.now_ms())
