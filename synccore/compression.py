"""Batches made smaller where it pays, and made whole again within a declared bound. Pure.

Source: docs/protocol.md, section 4, "Compression".
"""

from __future__ import annotations

import zlib

from synccore.errors import FrameError, LimitError
from synccore.messages import MAX_FRAME_BYTES, Compression, Lane

# Below this the headers are most of it, and a frame is one packet anyway.
MIN_BYTES = 1 << 10
# A tenth at least must go, or inflating it is work for nothing.
WORTH = 0.9
# The fastest level: JSON of pods shrinks to a sixth with it, and to a seventh with the slowest.
LEVEL = 1
# Samples come packed, and are the one lane where the processor, not the link, is the limit.
UNTOUCHED_LANES = frozenset({Lane.SAMPLES})


def shrink(batch: bytes) -> tuple[Compression, bytes]:
    """Return how `batch` is compressed, and what to send: itself if compressing it does not pay."""
    if len(batch) > MIN_BYTES:
        small = zlib.compress(batch, LEVEL)
        if len(small) < len(batch) * WORTH:
            return Compression.ZLIB, small
    return Compression.NONE, batch


def restore(compression: Compression, batch: bytes, raw_bytes: int) -> bytes:
    """Return the batch that `shrink` was given.

    Shapes:  raw_bytes: its declared length; nothing beyond it is ever inflated, so a bomb stays small.
    Raises:  LimitError: it is declared larger than a frame may be. FrameError: it is not what it says.
    """
    if compression is Compression.NONE:
        return batch
    if raw_bytes > MAX_FRAME_BYTES:
        raise LimitError("declared batch bytes", raw_bytes, MAX_FRAME_BYTES)
    inflater = zlib.decompressobj()
    try:
        # One byte more than declared: zlib takes 0 for "no limit", and a longer stream shows at once.
        whole = inflater.decompress(batch, raw_bytes + 1)
    except zlib.error as exc:
        raise FrameError(f"batch does not inflate ({exc})", 0) from exc
    if len(whole) != raw_bytes or not inflater.eof or inflater.unused_data:
        raise FrameError(f"batch is not the {raw_bytes} bytes it declares", 0)
    return whole
