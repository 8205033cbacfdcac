"""What all parts of a pod's spec are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of all parts of a Pod: immutable, names as Kubernetes writes them."""


Quantity = str | int | float  # strict decoding tells an int from a float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253, pattern=r"^[^/\x00]+$")]
Seconds = Annotated[int, msgspec.Meta(ge=0)]
