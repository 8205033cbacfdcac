"""What a server of thousands tells Python's garbage collector, which by default walks all that lives again and again."""

from __future__ import annotations

import gc

# (new objects, young rounds, middle rounds) until the next round. With the defaults a third of a core went into rounds
# that found nothing, as almost everything here lives long or has no cycles.
THRESHOLDS = (50_000, 20, 10)


def expect_long_lives() -> None:
    """Make rounds rarer; for a process that has memory to spare, not for an agent."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """Leave all that lives now out of every later round. It is never looked at again: call it once, for what stays."""
    gc.collect()
    gc.freeze()
