"""Who a database is: its id, its epoch and counter, and where it left the line that the cloud knows."""

from __future__ import annotations

import secrets
import uuid

from edgecore.metamanager.notes import CheckpointRepository, numbers
from edgecore.metamanager.recovery import next_epoch

# Versions left out at each opening, at random below this. Two copies of a database are opened on lines of their own, so
# that neither uses a number of the other: a million log entries each meet once in two thousand restored back-ups.
# Of the 48 bits below the epoch 65,000 openings use up one; then the next epoch begins by itself.
MAX_GAP = 1 << 32
_STORED = ("database_id", "counter", "fork", "welcomed", "report_all")


class Identity:
    """What the Hello says of the database, kept in its checkpoint. docs/protocol.md, "Databases and epochs".

    `fork` is the counter at the first start since the cloud last welcomed this database. A restored copy opens
    at an earlier counter than the cloud has seen since, however much it writes before it connects.
    """

    def __init__(self, checkpoint: CheckpointRepository, run_id: str = "") -> None:
        self._checkpoint = checkpoint
        self._stored = stored = checkpoint.all()
        self.database_id = stored["database_id"]
        self.counter = sum(numbers(stored["counter"]))
        self.fork = sum(numbers(stored.get("fork", b"")))
        self.report_all = stored.get("report_all") == b"\x01"
        self.run_id = run_id or uuid.uuid4().hex
        if stored.get("welcomed", b"\x01") == b"\x01":
            self.fork = self.counter
        if (
            "welcomed" in stored
        ):  # not at its first opening: nobody has a copy of what was not there
            self.counter += secrets.randbelow(MAX_GAP)
        self.welcomed = False

    def take(self, count: int) -> int:
        """Return the first of `count` new versions.

        Never taken back: a version of a transaction that failed is not used again.
        """
        first = self.counter + 1
        self.counter += count
        return first

    def start_epoch(self, counter: int) -> None:
        """Leave every version up to `counter` behind; every state must be reported again."""
        self.counter = self.fork = next_epoch(counter)
        self.welcomed, self.report_all = False, True

    def adopt(self, database_id: bytes | None) -> None:
        """Go on as the database that was here before."""
        self.database_id = database_id or self.database_id

    def store(self) -> None:
        """Write what changed."""
        now = {
            "database_id": self.database_id,
            "counter": self.counter.to_bytes(8, "big"),
            "fork": self.fork.to_bytes(8, "big"),
            "welcomed": bytes([self.welcomed]),
            "report_all": bytes([self.report_all]),
        }
        for name in _STORED:
            if self._stored.get(name) != now[name]:
                self._checkpoint.put(name, now[name])
        self._stored = now

    def copied(self) -> tuple[bytes, int, bool, bool]:
        """Return what `restore` takes."""
        return self.database_id, self.fork, self.welcomed, self.report_all

    def restore(self, copied: tuple[bytes, int, bool, bool]) -> None:
        """Take back a transaction that failed, but for the versions it used; the next one writes everything."""
        self.database_id, self.fork, self.welcomed, self.report_all = copied
        self._stored = {}
