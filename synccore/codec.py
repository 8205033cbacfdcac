"""The codec in use: the compiled one, or its Python twin if SYNCCORE_PUREPY=1 asks for it."""

from __future__ import annotations

import os

if os.environ.get("SYNCCORE_PUREPY") == "1":
    from synccore._codec_py import (
        decode_batch,
        diff_entries,
        digest_entries,
        encode_batch,
        pack_entries,
    )
else:  # no silent fallback: a missing extension is a broken install, not a slow one
    from synccore._codec import (
        decode_batch,
        diff_entries,
        digest_entries,
        encode_batch,
        pack_entries,
    )

COMPILED = decode_batch.__module__ == "synccore._codec"

__all__ = [
    "COMPILED",
    "decode_batch",
    "diff_entries",
    "digest_entries",
    "encode_batch",
    "pack_entries",
]
