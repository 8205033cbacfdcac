"""Blocks of readings among the hub's frames: where they come from, and rows of the outbox that hold one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Protocol

from edgecore.records import SAMPLE_BLOCK, OutboxRow

# The token of a frame whose block came from a `BlockSource`.
MEMORY_BLOCK = object()


class BlockSource(Protocol):
    """Blocks that are in memory only."""

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever there is something to send."""

    def restart(self) -> None:
        """Begin a new stream: what was not acknowledged is sent again."""

    def next_block(self, max_bytes: int) -> bytes | None:
        """Return the next block to send, of about `max_bytes` at most, or None."""

    def acknowledged(self, count: int) -> None:
        """Forget the oldest `count` blocks sent: the cloud has them."""


class NoBlocks:
    """A `BlockSource` without blocks."""

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Never call."""

    def restart(self) -> None:
        """Nothing is sent again."""

    def next_block(self, max_bytes: int) -> bytes | None:  # noqa: ARG002
        """Return None."""
        return None

    def acknowledged(self, count: int) -> None:
        """Nothing was sent."""
        assert not count


def is_sample_block(row: OutboxRow) -> bool:
    """Tell whether a row of the outbox holds a block of readings."""
    return row.report.key == SAMPLE_BLOCK


def first_rows(rows: Sequence[OutboxRow]) -> Sequence[OutboxRow]:
    """Return the rows that go into the next frame: a block has one of its own."""
    if is_sample_block(rows[0]):
        return rows[:1]
    return list(takewhile(lambda row: not is_sample_block(row), rows))
