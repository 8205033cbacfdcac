"""Property values: text on the wires, typed by the device model, with range and access mode enforced."""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from corekit.errors import DeviceError
from devicemodels.objects import ModelProperty, ValueType

# What a JSON value reads as is anything; the others are what their names say.
Value = int | float | bool | str | bytes | list[Any] | dict[str, Any] | None

# A twin value lives in an object of at most 1.5 MiB together with every other property of its device.
MAX_VALUE_BYTES = 64 << 10
INT64 = 1 << 63
FLOAT32_MAX = 3.4028234663852886e38
_INT = re.compile(r"[+-]?[0-9]{1,19}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?\Z")
# A wrong value is quoted in errors up to this length; the rest says nothing more.
_QUOTED_CHARS = 40


class DeviceModelError(DeviceError):
    """A value or property contradicts the device model."""

    def __init__(self, device: str, prop: str, problem: str) -> None:
        self.property = prop
        super().__init__(device, f"property {prop!r}: {problem}")


class AccessModeError(DeviceModelError):
    """A write to a property that can only be read."""

    def __init__(self, device: str, prop: str) -> None:
        super().__init__(device, prop, "is ReadOnly in its model and cannot be desired")


def parse_value(device: str, prop: ModelProperty, text: str) -> Value:
    """Return `text` as a value of the property's type, within its range.

    Raises:  DeviceModelError: naming device, property, value and limit.
    """
    if len(text) > MAX_VALUE_BYTES // 4 and (size := _utf8_bytes(text)) > MAX_VALUE_BYTES:
        problem = f"value of {size} bytes is more than the limit of {MAX_VALUE_BYTES}"
        raise DeviceModelError(device, prop.name, problem)
    try:
        value = _PARSERS[prop.type](text)
        if prop.minimum or prop.maximum:
            _check_range(prop, value)
    except ValueError as exc:
        raise DeviceModelError(device, prop.name, f"value {quoted(text)} {exc}") from None
    return value


def parse_desired(device: str, prop: ModelProperty, text: str) -> Value:
    """Return `text` as a value that may be asked of the device.

    Raises:  AccessModeError: the property is ReadOnly. DeviceModelError: as `parse_value`.
    """
    if prop.access_mode == "ReadOnly":
        raise AccessModeError(device, prop.name)
    return parse_value(device, prop, text)


def same_value(prop: ModelProperty, one: str, other: str) -> bool:
    """Tell whether two texts mean the same: `1.0` and `1` do for a DOUBLE, not for a STRING."""
    if one == other:
        return True
    try:
        return _PARSERS[prop.type](one) == _PARSERS[prop.type](other)
    except ValueError:
        return False


def parse_limit(prop: ModelProperty, text: str) -> int | float:
    """Return a `minimum`, `maximum` or `deadBand` as a number of the property's type. Raises: ValueError."""
    limit = _PARSERS[prop.type](text)
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise ValueError("is not a number")
    return limit


def has_range(prop: ModelProperty) -> bool:
    """Tell whether minimum and maximum mean something for the property's type."""
    return prop.type in ("INT", "FLOAT", "DOUBLE")


def quoted(text: str) -> str:
    """Return `text` for an error message, cut where it says nothing more."""
    return repr(text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…")


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _check_range(prop: ModelProperty, value: Value) -> None:
    if not has_range(prop) or not isinstance(value, int | float):
        return
    low, high = limits(prop.type, prop.minimum, prop.maximum)
    if low is not None and value < low:
        unit = f" {prop.unit}" if prop.unit else ""
        raise ValueError(f"is less than the minimum of {prop.minimum}{unit}")
    if high is not None and value > high:
        unit = f" {prop.unit}" if prop.unit else ""
        raise ValueError(f"is more than the maximum of {prop.maximum}{unit}")


# Asked for every value that comes in; the key is three short texts, and a node has some hundred of them.
@functools.lru_cache(maxsize=4096)
def limits(kind: ValueType, minimum: str, maximum: str) -> tuple[float | None, float | None]:
    """Return the range of a numeric property; a limit that is no number limits nothing (`rules` refuses it)."""
    found: list[float | None] = []
    for text in (minimum, maximum):
        try:
            limit = _PARSERS[kind](text) if text else None
        except ValueError:
            limit = None
        found.append(limit if isinstance(limit, int | float) else None)
    return found[0], found[1]


def _parse_int(text: str) -> int:
    if not _INT.match(text):
        raise ValueError("is not an INT")
    value = int(text)
    if not -INT64 <= value < INT64:
        raise ValueError("is outside the 64 bits of an INT")
    return value


def _parse_double(text: str) -> float:
    # Not float() alone: it takes "nan", "1_000" and Arabic digits, which no device means.
    if not _NUMBER.match(text):
        raise ValueError("is not a number")
    value = float(text)
    if math.isinf(value):
        raise ValueError("is outside the range of a DOUBLE")
    return value


def _parse_float(text: str) -> float:
    value = _parse_double(text)
    if abs(value) > FLOAT32_MAX:
        raise ValueError("is outside the range of a FLOAT")
    return value


def _parse_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is not a BOOLEAN, which is true or false")
    return text == "true"


def _parse_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not BYTES, which are base64") from None


def _parse_string(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8") from None
    return text


def _parse_json(text: str) -> Value:
    try:
        value: Value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError("is not JSON") from None
    return value


def _parse_stream(_text: str) -> str:
    raise ValueError("cannot be held: a STREAM property has no twin value")


_PARSERS: dict[ValueType, Callable[[str], Value]] = {
    "INT": _parse_int,
    "FLOAT": _parse_float,
    "DOUBLE": _parse_double,
    "BOOLEAN": _parse_boolean,
    "STRING": _parse_string,
    "BYTES": _parse_bytes,
    "JSON": _parse_json,
    "STREAM": _parse_stream,
}
