"""A driver's values as text for the wires, and texts as values for a driver; the model's own rules decide."""

from __future__ import annotations

import base64

from devicemodels.dmi import MappedType
from devicemodels.objects import ModelProperty
from devicemodels.values import limits, parse_desired, parse_value
from mappers.sdk.driver import Value

_NUMBERS, _PLAIN = ("INT", "FLOAT", "DOUBLE"), (int, float)
# Whole numbers up to here are the same as 64-bit floats; far inside what a FLOAT takes.
EXACT = 1 << 53


def model_property(mapped: MappedType) -> ModelProperty:
    """Return the model's property, for the rules of `devicemodels`."""
    return ModelProperty(
        name=mapped.name,
        type=mapped.type,  # type: ignore[arg-type]  # of the API's enum, or refused by the parser
        access_mode=mapped.access_mode,  # type: ignore[arg-type]
        minimum=mapped.minimum,
        maximum=mapped.maximum,
        unit=mapped.unit,
    )


def reading_of(device: str, prop: ModelProperty, value: Value) -> float | str:
    """Return `value` as it is reported, checked against the model: a number if its type is one, else its text.

    Raises:  DeviceModelError: naming device, property, value and limit.
    """
    if prop.type in _NUMBERS and type(value) in _PLAIN:
        low, high = limits(prop.type, prop.minimum, prop.maximum)
        # What is not clearly right is looked at as a text, which says what is wrong with it.
        if (
            -EXACT <= value <= EXACT  # type: ignore[operator]  # int or float
            and (low is None or value >= low)  # type: ignore[operator]
            and (high is None or value <= high)  # type: ignore[operator]
            and (prop.type != "INT" or value == int(value))
        ):
            return float(value)
    return text_of(device, prop, value)


def text_of(device: str, prop: ModelProperty, value: Value) -> str:
    """Return `value` as its text on the wires, checked against the model.

    Raises:  DeviceModelError: naming device, property, value and limit.
    """
    text = _text(prop, value)
    parse_value(device, prop, text)
    return text


def value_of(device: str, prop: ModelProperty, text: str) -> Value:
    """Return a desired text as a value. Raises: AccessModeError, DeviceModelError."""
    value = parse_desired(device, prop, text)
    # A driver is given a JSON property as its text: that is what goes over its wire.
    return value if isinstance(value, int | float | bool | str | bytes) else text


def _text(prop: ModelProperty, value: Value) -> str:
    if prop.type == "BYTES" and isinstance(value, bytes | str):
        return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if prop.type == "BOOLEAN" and isinstance(value, int | float):
        return "true" if value else "false"
    if isinstance(value, bool):
        return "true" if value else "false"
    if prop.type == "INT" and isinstance(value, float) and value.is_integer():
        return str(int(value))  # a sensor counts in floats, the model in whole numbers
    return repr(value) if isinstance(value, float) else str(value)


def text_of_value(value: Value) -> str:
    """Return a value as text where no model says how: whole numbers without a point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)
