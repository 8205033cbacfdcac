"""Quantities (`500m`, `1.5Gi`): parse them to exact numbers, write them as the API server does."""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal, localcontext

_PATTERN = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?[0-9]+))?"
)
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
_FACTOR = {suffix: Decimal(10) ** power for power, suffix in _DECIMAL.items()} | {
    suffix: Decimal(1024) ** index for index, suffix in enumerate(_BINARY)
}
# Longer ones overflow the int64 arithmetic of every Kubernetes client.
MAX_CHARS = 64
MAX_EXPONENT = 30
_RULE = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


def parse_quantity(text: str | float) -> Decimal:
    """Return the value of a quantity.

    Raises:  ValueError: it is none.
    """
    return _parse(str(text))[0]


def canonical_quantity(text: str | float) -> str:
    """Return the quantity as the API server stores it: `0.5` is `500m`, `1024Ki` is `1Mi`, `1000` is `1k`.

    Raises:  ValueError: it is none.
    """
    value, family = _parse(str(text))
    if value == 0:
        return "0"
    with localcontext() as context:
        context.prec = 80
        if family == "binary" and abs(value) >= 1024 and value == value.to_integral_value():
            return _binary(int(value))
        return _decimal(value, exponent=family == "exponent")


def _parse(text: str) -> tuple[Decimal, str]:
    match = _PATTERN.fullmatch(text) if len(text) <= MAX_CHARS else None
    if match is None:
        raise ValueError(_RULE)
    number, suffix, exponent = match.groups()
    if exponent is not None:
        if abs(int(exponent)) > MAX_EXPONENT:
            raise ValueError(_RULE)
        return Decimal(number).scaleb(int(exponent)), "exponent"
    family = "binary" if suffix in _BINARY[1:] else "decimal"
    return Decimal(number) * _FACTOR[suffix or ""], family


def _binary(value: int) -> str:
    index = 0
    while value % 1024 == 0 and index < len(_BINARY) - 1:
        value, index = value // 1024, index + 1
    return f"{value}{_BINARY[index]}"


def _decimal(value: Decimal, *, exponent: bool) -> str:
    power = 18
    while power > -9 and value % _FACTOR[_DECIMAL[power]] != 0:
        power -= 3
    # Below a nano Kubernetes rounds up, away from zero.
    scaled = (value / _FACTOR[_DECIMAL[power]]).to_integral_value(ROUND_UP)
    if exponent:
        return f"{scaled:f}e{power}" if power else f"{scaled:f}"
    return f"{scaled:f}{_DECIMAL[power]}"
