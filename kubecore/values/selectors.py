"""Label and field selectors: text to a predicate."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from corekit.errors import EdgeError
from kubecore.values.names import label_value_problem, qualified_name_problem

LabelPredicate = Callable[[dict[str, str]], bool]
ObjectPredicate = Callable[[dict[str, Any]], bool]

# Clients put selectors in the URL; nothing sensible comes near this.
MAX_SELECTOR_CHARS = 16 * 1024
_SET = re.compile(r"\s*(?P<key>[^\s(),=!<>]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_EQUAL = re.compile(r"\s*(?P<key>[^\s(),=!<>]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s(),=!<>]*)\s*")
_COMPARE = re.compile(r"\s*(?P<key>[^\s(),=!<>]+)\s*(?P<op>[<>])\s*(?P<value>-?\d+)\s*")
_EXISTS = re.compile(r"\s*(?P<not>!?)\s*(?P<key>[^\s(),=!<>]+)\s*")


class SelectorError(EdgeError):
    """The selector does not parse: 400 BadRequest."""


def parse_label_selector(text: str) -> LabelPredicate:
    """Return a predicate over labels; an empty text selects everything.

    Raises:  SelectorError: naming what is wrong with which part.
    """
    _check_length(text)
    terms = [_label_term(part) for part in _split(text)]
    return lambda labels: all(term(labels) for term in terms)


def _split(text: str) -> list[str]:
    """Return the parts between commas that are not in parentheses."""
    if not text.strip():
        return []
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return parts


def _label_term(part: str) -> LabelPredicate:
    if match := _SET.fullmatch(part):
        values = {_value(v.strip()) for v in match["values"].split(",")}
        return _in(_key(match["key"]), frozenset(values), negated=match["op"] == "notin")
    if match := _EQUAL.fullmatch(part):
        values = {_value(match["value"])}
        return _in(_key(match["key"]), frozenset(values), negated=match["op"] == "!=")
    if match := _COMPARE.fullmatch(part):
        return _compare(_key(match["key"]), int(match["value"]), greater=match["op"] == ">")
    if match := _EXISTS.fullmatch(part):
        key, absent = _key(match["key"]), bool(match["not"])
        return lambda labels: (key in labels) != absent
    raise SelectorError(f"unable to parse requirement: {part.strip()!r} is no requirement")


def _in(key: str, values: frozenset[str], *, negated: bool) -> LabelPredicate:
    if negated:  # an absent label is not in any set
        return lambda labels: labels.get(key) not in values
    return lambda labels: key in labels and labels[key] in values


def _compare(key: str, limit: int, *, greater: bool) -> LabelPredicate:
    def holds(labels: dict[str, str]) -> bool:
        try:
            value = int(labels[key])
        except (KeyError, ValueError):
            return False
        return value > limit if greater else value < limit

    return holds


def _key(key: str) -> str:
    if problem := qualified_name_problem(key):
        raise SelectorError(f'unable to parse requirement: key: Invalid value: "{key}": {problem}')
    return key


def _value(value: str) -> str:
    if problem := label_value_problem(value):
        raise SelectorError(
            f'unable to parse requirement: values: Invalid value: "{value}": {problem}'
        )
    return value


def match_label_selector(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether `labels` fit a LabelSelector object (matchLabels and matchExpressions)."""
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(match_expression(e, labels) for e in selector.get("matchExpressions") or [])


def match_expression(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether `labels` fit one requirement of a label or node selector; unknown operators never fit."""
    key, values = expression.get("key", ""), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt" | "Lt" as operator:
            numbers = [v for v in values if v.lstrip("-").isdigit()]
            return bool(numbers) and _compare(key, int(numbers[0]), greater=operator == "Gt")(
                labels
            )
    return False


def parse_field_selector(text: str) -> ObjectPredicate:
    r"""Return a predicate over objects; `\,` `\=` and `\\` in a value stand for themselves.

    Raises:  SelectorError: naming the part that is no `path=value`.
    """
    _check_length(text)
    parts = re.findall(r"(?:\\.|[^,\\])+", text) if text.strip() else []
    terms = [_field_term(part.strip()) for part in parts if part.strip()]
    return lambda obj: all(term(obj) for term in terms)


def _field_term(part: str) -> ObjectPredicate:
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9.]*)(==|!=|=)(.*)", part, re.DOTALL)
    if match is None:
        raise SelectorError(f"invalid selector: '{part}'; can't understand '{part}'")
    path, operator, raw = match.groups()
    wanted = re.sub(r"\\(.)", r"\1", raw)
    negated = operator == "!="
    keys = tuple(path.split("."))
    return lambda obj: (_field_text(obj, keys) == wanted) != negated


def _field_text(obj: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Return a field as selectors compare it. An absent one is empty, and an absent boolean is false."""
    value: Any = obj
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        # Go compares the zero value: `spec.unschedulable=false` must match a node that does not say.
        return "false" if keys[-1] in _BOOLEANS else ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_BOOLEANS = frozenset({"unschedulable", "hostNetwork"})


def _check_length(text: str) -> None:
    if len(text) > MAX_SELECTOR_CHARS:
        raise SelectorError(f"a selector may not be longer than {MAX_SELECTOR_CHARS} characters")
