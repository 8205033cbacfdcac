"""Blocks of readings among the hub's frames: where they come from, and rows of the outbox that hold one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Protocol

from edgecore.records import SAMPLE_BLOCK, OutboxRow
from synccore.codec import encode_batch
from synccore.messages import Delta
from synccore.samples import with_sequence

# The token of a frame whose block came from a `BlockSource`.
MEMORY_BLOCK = object()


class BlockSource(Protocol):
    """Blocks that are in memory only."""

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever there is something to send."""

    def restart(self) -> None:
        """Begin a new stream: what was not acknowledged is sent again."""

    def next_block(self) -> bytes | None:
        """Return the next block to send, or None."""

    def acknowledged(self, count: int) -> None:
        """Forget the oldest `count` blocks sent: the cloud has them."""


class NoBlocks:
    """A `BlockSource` without blocks."""

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Never call."""

    def restart(self) -> None:
        """Nothing is sent again."""

    def next_block(self) -> bytes | None:
        """Return None."""
        return None

    def acknowledged(self, count: int) -> None:
        """Nothing was sent."""
        assert not count


def first_frame(rows: Sequence[OutboxRow]) -> tuple[bytes, Sequence[OutboxRow]]:
    """Return the batch that starts with the first of `rows`, and the rows in it. A block has a frame of its own."""
    report, version = rows[0]
    if report.key == SAMPLE_BLOCK:
        return with_sequence(report.body, version), rows[:1]
    taken = list(takewhile(lambda row: row.report.key != SAMPLE_BLOCK, rows))
    return encode_batch([_delta(row) for row in taken]), taken


def _delta(row: OutboxRow) -> Delta:
    report, version = row
    # The version is the change's name in both logs: grep finds one change on its whole way.
    return Delta(report.op, report.key, report.uid, version, body=report.body, change_id=version)
