"""The single rules of a structural schema (type, enum, limits, pattern, list type), in the API server's words."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from corekit.timestamps import parse_rfc3339
from kubecore.values.invalid import Cause, duplicate, invalid, not_supported, required, shown

_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
}


def check_value(schema: dict[str, Any], value: Any, path: str) -> list[Cause]:
    """Return what is wrong with `value` itself; its children are checked by the caller."""
    if wrong := _check_type(schema, value, path):
        return [wrong]
    causes: list[Cause] = []
    if "enum" in schema and value not in schema["enum"]:
        causes.append(not_supported(path, value, [str(known) for known in schema["enum"]]))
    if isinstance(value, str):
        causes += _check_string(schema, value, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        causes += _check_number(schema, value, path)
    elif isinstance(value, list):
        causes += _check_list(schema, value, path)
    elif isinstance(value, dict):
        causes += _check_object(schema, value, path)
    return causes


def _check_type(schema: dict[str, Any], value: Any, path: str) -> Cause | None:
    got = json_type(value)
    if schema.get("x-kubernetes-int-or-string"):
        if got in ("integer", "string"):
            return None
        return _body(path, got, f'must be of type integer,string: "{got}"')
    wanted = schema.get("type")
    if wanted is None or got == wanted or (wanted == "number" and got == "integer"):
        return None
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return None
    return _body(path, got, f'must be of type {wanted}: "{got}"')


def _check_string(schema: dict[str, Any], value: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    limit = schema.get("maxLength")
    if limit is not None and len(value) > limit:
        text = f"Too long: may not be more than {limit} bytes"
        causes.append(Cause(path, "FieldValueTooLong", text))
    least = schema.get("minLength")
    if least is not None and len(value) < least:
        causes.append(_body(path, value, f"should be at least {least} chars long"))
    pattern = schema.get("pattern")
    if pattern is not None and not compile_pattern(pattern).search(value):
        causes.append(_body(path, value, f"should match '{pattern}'"))
    if not _fits_format(schema.get("format", ""), value):
        causes.append(_body(path, value, f'must be of type {schema["format"]}: "{value}"'))
    return causes


def _check_number(schema: dict[str, Any], value: float, path: str) -> list[Cause]:
    causes: list[Cause] = []
    most, least = schema.get("maximum"), schema.get("minimum")
    if most is not None:
        if schema.get("exclusiveMaximum") and value >= most:
            causes.append(_body(path, value, f"should be less than {most}"))
        elif value > most:
            causes.append(_body(path, value, f"should be less than or equal to {most}"))
    if least is not None:
        if schema.get("exclusiveMinimum") and value <= least:
            causes.append(_body(path, value, f"should be greater than {least}"))
        elif value < least:
            causes.append(_body(path, value, f"should be greater than or equal to {least}"))
    step = schema.get("multipleOf")
    if step and value % step:
        causes.append(_body(path, value, f"should be a multiple of {step}"))
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits and not -(1 << bits) <= value < (1 << bits):
        causes.append(_body(path, value, f"should be a {schema['format']} value"))
    return causes


def _check_list(schema: dict[str, Any], value: list[Any], path: str) -> list[Cause]:
    causes = _check_count(schema, len(value), path, "Items", "items")
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return causes
    keys = schema.get("x-kubernetes-list-map-keys", [])
    seen: set[str] = set()
    for index, item in enumerate(value):
        identity: Any = item
        if kind == "map" and isinstance(item, dict):
            identity = {key: item.get(key) for key in keys}
        text = shown(identity)
        if text in seen:
            causes.append(duplicate(f"{path}[{index}]", identity))
        seen.add(text)
    return causes


def _check_object(schema: dict[str, Any], value: dict[str, Any], path: str) -> list[Cause]:
    causes = _check_count(schema, len(value), path, "Properties", "properties")
    for name in schema.get("required", ()):
        if name not in value:
            causes.append(required(f"{path}.{name}" if path else name))
    return causes


def _check_count(
    schema: dict[str, Any], count: int, path: str, suffix: str, what: str
) -> list[Cause]:
    most, least = schema.get(f"max{suffix}"), schema.get(f"min{suffix}")
    if most is not None and count > most:
        text = f"Too many: {count}: must have at most {most} items"
        return [Cause(path, "FieldValueTooMany", text)]
    if least is not None and count < least:
        return [_body(path, count, f"should have at least {least} {what}")]
    return []


def _is_date_time(value: str) -> bool:
    try:
        parse_rfc3339(value)
    except ValueError:
        return False
    return True


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "date": lambda text: re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None,
    "ipv4": lambda text: re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}", text) is not None,
    "byte": lambda text: re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", text) is not None,
    "uuid": lambda text: (
        re.fullmatch(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None
    ),
}


def _fits_format(name: str, value: str) -> bool:
    """Tell whether `value` has the format; unknown formats fit, as in the API server."""
    check = _FORMATS.get(name)
    return check is None or check(value)


@functools.lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""Return a CRD's pattern as Python reads it; Go's `\z` is Python's `\Z`.

    Raises:  re.error: not a pattern; CRDs are refused for that when they are installed.
    """
    return re.compile(pattern.replace(r"\z", r"\Z"))


def json_type(value: Any) -> str:
    """Return the JSON name of a value's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return next(name for name, kinds in _JSON_TYPES.items() if isinstance(value, kinds))


def _body(path: str, value: Any, rule: str) -> Cause:
    return invalid(path, value, f"{path} in body {rule}" if path else rule)
