"""The part of a JSON document that a property is: `a.b[0].c`; pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mappers.sdk.driver import PointFault, Value

# A step by name is into an object, one by number into a list.
_CONTAINER: dict[type, type[Any]] = {str: dict, int: list}
_NOTHING: dict[Any, Any] = {}
_STEP = re.compile(r"\.?([A-Za-z0-9_$@:-]+)|\[([0-9]{1,6})\]")


def steps_of(path: str) -> list[str | int]:
    """Return the steps of a path; a leading `$` or `$.` is allowed, an empty path is the document.

    Raises:  ValueError: naming the place that is not understood.
    """
    rest = path[1:] if path.startswith("$") else path
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None or (at == 0 and rest[0] == "." and path[:1] != "$"):
            raise ValueError(f"path {path!r}: not understood at {rest[at : at + 20]!r}")
        steps.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    return steps


def pick(payload: bytes, steps: list[str | int]) -> Value | PointFault:
    """Return the value at `steps` of a JSON payload; without steps, a payload that is no JSON is a text."""
    try:
        value: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        if steps:
            return PointFault(f"payload is no JSON: {exc}")
        return payload.decode(errors="replace")
    for step in steps:
        try:
            fits = isinstance(value, _CONTAINER[type(step)])
            value = value[step] if fits else _NOTHING[step]
        except LookupError:
            return PointFault(f"payload has no {step!r} where the path wants it")
    if isinstance(value, str | bool | int | float):
        return value
    return msgspec.json.encode(value).decode()
