"""The part of JSONPath that printer columns use: fields, `['x']`, `[0]`, `[*]`, `[?(@.a=="b")]`, `..` not."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

Step = Callable[[Any], list[Any]]

_TOKEN = re.compile(
    r"""\.(?P<field>(?:[A-Za-z0-9_\-/$@]|\\.)+)
      | \.?\[\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)")\s*\]
      | \.?\[(?P<index>-?\d+)\]
      | \.?\[(?P<star>\*)\] | \.(?P<dotstar>\*)
      | \.?\[\?\(\s*@\.(?P<key>[A-Za-z0-9_\-.]+)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]
    """,
    re.VERBOSE,
)


@functools.lru_cache(maxsize=512)
def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """Return a function from a document to the values at `path`, in order.

    Raises:  ValueError: naming the place in `path` that is not understood.
    """
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    text = text.removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{path}: not understood from {text[position:]!r}")
        steps.append(_step(match))
        position = match.end()
    return lambda document: _walk(steps, document)


def _walk(steps: list[Step], document: Any) -> list[Any]:
    found = [document]
    for step in steps:
        found = [value for item in found for value in step(item)]
    return found


def _step(match: re.Match[str]) -> Step:
    groups = match.groupdict()
    for quoted in ("single", "double"):
        if groups[quoted] is not None:
            return _field(groups[quoted])
    if groups["field"] is not None:
        return _field(re.sub(r"\\(.)", r"\1", groups["field"]))
    if groups["index"] is not None:
        return _index(int(groups["index"]))
    if groups["key"] is not None:
        return _filter(groups["key"], groups["op"], groups["value"])
    return _all


def _field(name: str) -> Step:
    return lambda item: [item[name]] if isinstance(item, dict) and name in item else []


def _index(number: int) -> Step:
    def step(item: Any) -> list[Any]:
        inside = isinstance(item, list) and -len(item) <= number < len(item)
        return [item[number]] if inside else []

    return step


def _all(item: Any) -> list[Any]:
    if isinstance(item, dict):
        return list(item.values())
    return list(item) if isinstance(item, list) else []


def _filter(key: str, operator: str, raw: str) -> Step:
    wanted = _literal(raw)
    inner = [_field(part) for part in key.split(".")]

    def step(item: Any) -> list[Any]:
        if not isinstance(item, list):
            return []
        return [e for e in item if (_walk(inner, e) == [wanted]) == (operator == "==")]

    return step


def _literal(raw: str) -> Any:
    if raw[0] in "'\"":
        return raw[1:-1]
    try:
        return json.loads(raw)
    except ValueError:
        return raw
