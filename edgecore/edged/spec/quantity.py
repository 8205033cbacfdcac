"""Kubernetes quantities (`500m`, `64Mi`, `2e3`) as exact numbers."""

from __future__ import annotations

import re
from decimal import Decimal

MAX_CHARS = 64  # far beyond any real amount, and short enough for exact arithmetic
_SHAPE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([a-zA-Z]*))")
_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{s: Decimal(1000) ** (i + 1) for i, s in enumerate(("k", "M", "G", "T", "P", "E"))},
    **{s: Decimal(1024) ** (i + 1) for i, s in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
}


def parse_quantity(text: str | float) -> Decimal:
    """Return the value of a quantity.

    Raises:  ValueError: not a quantity.
    """
    match = _SHAPE.fullmatch(str(text)[: MAX_CHARS + 1])
    if match is None or len(match[0]) > MAX_CHARS or (match[3] or "") not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    if match[2]:
        return Decimal(match[1]).scaleb(int(match[2]))
    return Decimal(match[1]) * _SUFFIXES[match[3] or ""]


def ceil_of(value: Decimal) -> int:
    """Return `value` rounded up: half a millicore is still one."""
    whole = int(value)
    return whole + 1 if value > whole else whole


def shown_bytes(value: int) -> str:
    """Return bytes as Kubernetes prints a binary quantity: the largest unit that divides them."""
    for power, suffix in ((6, "Ei"), (5, "Pi"), (4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{suffix}"
    return str(value)
