"""Bodies whose every byte follows from the key and its number, so that a changed bit anywhere is seen."""

from __future__ import annotations

import json
import random
from hashlib import blake2b

Key = tuple[str, str, str]


def short_hash(body: bytes) -> str:
    """Return what tells two bodies apart in a history."""
    return blake2b(body, digest_size=8).hexdigest()


def body_of(key: Key, n: int, **more: object) -> str:
    """Return the body of state `n` of `key`; one in fifty is large."""
    rng = random.Random(f"{key}{n}")
    size = 30_000 if rng.random() < 0.02 else rng.randrange(400)
    pad = "".join(rng.choices("abcdefgh", k=size))
    return json.dumps({"n": n, "pad": pad, **more})
