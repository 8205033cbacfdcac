"""Values of one property, many at a time, as JSON has them: checked by type and range as a whole. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from devicemodels.objects import ModelProperty
from devicemodels.values import DeviceModelError, limits, parse_value, quoted

# JSON's own types of the values of each type; what else comes is wrong.
_NATIVE: dict[str, frozenset[type]] = {
    "INT": frozenset({int}),
    "FLOAT": frozenset({int, float}),
    "DOUBLE": frozenset({int, float}),
    "BOOLEAN": frozenset({bool}),
    "STRING": frozenset({str}),
    "BYTES": frozenset({str}),
}


def check_column(device: str, prop: ModelProperty, values: Sequence[Any]) -> None:
    """Refuse a column with a value that is not of the property's type or outside of its range.

    A column that is right costs some ten nanoseconds a value; only a wrong one is looked at value by value.
    Raises:  DeviceModelError: naming device, property, value and limit of the first wrong one.
    """
    native = _NATIVE.get(prop.type)
    if native is None or prop.type in ("STRING", "BYTES"):
        for value in values:
            _check_one(device, prop, value)
        return
    wrong_type = not native.issuperset(map(type, values))
    if wrong_type or (prop.type != "BOOLEAN" and not _in_range(prop, values)):
        for value in values:
            _check_one(device, prop, value)


def text_of(prop: ModelProperty, value: Any) -> str:
    """Return a JSON value as the text that twins hold."""
    if prop.type == "JSON":
        return msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return repr(value)
    return msgspec.json.encode(value).decode()


def _in_range(prop: ModelProperty, values: Sequence[Any]) -> bool:
    low, high = limits(prop.type, prop.minimum, prop.maximum)
    least, most = min(values, default=0), max(values, default=0)
    if prop.type == "INT" and not (least >= -(1 << 63) and most < 1 << 63):
        return False
    if prop.type == "FLOAT" and not (least >= -3.4e38 and most <= 3.4e38):
        return False  # the exact bound is parse_value's
    return (low is None or least >= low) and (high is None or most <= high)


def _check_one(device: str, prop: ModelProperty, value: Any) -> None:
    native = _NATIVE.get(prop.type)
    text = text_of(prop, value)
    if native is not None and type(value) not in native:
        # Quoted, so that parsing it fails in the words of its type: "7" is no INT here, as 7 is no STRING.
        text = msgspec.json.encode(value).decode()
        if prop.type in ("STRING", "BYTES"):
            raise DeviceModelError(device, prop.name, f"value {quoted(text)} is not text")
    parse_value(device, prop, text)
