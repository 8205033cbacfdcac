"""The codec in use: the compiled one, or its Python twin if SYNCCORE_PUREPY=1 asks for it."""

from __future__ import annotations

import os

if os.environ.get("SYNCCORE_PUREPY") == "1":
    from synccore._codec_py import diff_entries, digest_entries, pack_entries
else:  # no silent fallback: a missing extension is a broken install, not a slow one
    from synccore._codec import diff_entries, digest_entries, pack_entries

__all__ = ["diff_entries", "digest_entries", "pack_entries"]
