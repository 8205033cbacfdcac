"""Free-form configData against a driver's schema; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mappers.sdk.errors import DriverConfigError

S = TypeVar("S", bound=msgspec.Struct)
_WHERE = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)


def typed(device: str, place: str, schema: type[S], config: Mapping[str, Any]) -> S:
    """Return `config` as the schema's type.

    A whole number fits where a float is asked for and the other way round, and `"502"` where a number is: on the DMI
    wire every number is a 32-bit float, and people write YAML.

    Shapes:  place: where the configuration stands in the Device, for the error.
    Raises:  DriverConfigError: naming device, field and what was expected.
    """
    try:
        return msgspec.convert(_whole_numbers(config), schema, strict=False)
    except msgspec.ValidationError as exc:
        problem, where = _WHERE.match(str(exc)).groups()  # type: ignore[union-attr]  # it matches anything
        field = f"{place}.{where}" if where else place
        raise DriverConfigError(device, f"{field}: {problem}") from exc


def _whole_numbers(value: Any) -> Any:
    """Return `value` with floats that are whole numbers as such."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole_numbers(member) for key, member in value.items()}
    return [_whole_numbers(member) for member in value] if isinstance(value, list) else value
