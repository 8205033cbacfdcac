"""`x-kubernetes-validations`: the part of CEL that validation rules of plain fields need, evaluated.

Literals, field selection, `has()`, `in`, comparison, `!`, `&&`, `||`, `?:`, lists, and the functions matches,
startsWith, endsWith, contains, size, int, double and string. A rule with more than that is not evaluated here, which
is said once in the log when its definition is first used; a real API server evaluates all of CEL.
"""

from __future__ import annotations

import ast
import functools
import logging
import re
from collections.abc import Callable
from typing import Any

from kubecore.values.invalid import Cause, invalid
from kubecore.values.structural_rules import compile_pattern

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Node = Callable[[Scope], Any]
MAX_RULE_CHARS = 4096
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|\d+)|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<mark>\|\||&&|==|!=|<=|>=|[-!<>()\[\],.?:]))"""
)


class UnsupportedRuleError(Exception):
    """A rule needs more of CEL than there is here."""


class _EvaluationError(Exception):
    """A rule cannot be evaluated on a value; the API server calls the value invalid then."""


def check_rules(schema: dict[str, Any], value: Any, path: str) -> list[Cause]:
    """Return the rules of a schema node that `value` breaks."""
    causes = []
    for rule in schema.get("x-kubernetes-validations") or ():
        text = rule.get("rule", "")
        evaluate = _compiled(text)
        if evaluate is None:
            continue
        try:
            holds = evaluate({"self": value}) is True
        except _EvaluationError as exc:
            causes.append(invalid(path, value, f"rule evaluation error: {exc}"))
            continue
        if not holds:
            causes.append(invalid(path, value, rule.get("message") or f"failed rule: {text}"))
    return causes


@functools.lru_cache(maxsize=512)
def _compiled(text: str) -> Node | None:
    try:
        return compile_rule(text)
    except UnsupportedRuleError as exc:
        logger.warning("a validation rule is not evaluated: %s: %s", text[:200], exc)
        return None


def compile_rule(text: str) -> Node:
    """Return a rule as a function of its variables. Raises: UnsupportedRuleError."""
    if len(text) > MAX_RULE_CHARS:
        raise UnsupportedRuleError(f"longer than {MAX_RULE_CHARS} characters")
    parser = _Parser(_tokens(text))
    try:
        node = parser.ternary()
    except RecursionError:
        raise UnsupportedRuleError("nested too deeply") from None
    parser.end()
    return node


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise UnsupportedRuleError(f"cannot be read from {text[place : place + 20]!r}")
        found.append((str(match.lastgroup), str(match.group(match.lastgroup or 0))))
        place = match.end()
    return found


class _Parser:
    """Recursive descent, a level for each binding strength of CEL."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens, self._place = tokens, 0

    def end(self) -> None:
        if self._place < len(self._tokens):
            raise UnsupportedRuleError(f"{self._tokens[self._place][1]!r} is not expected")

    def ternary(self) -> Node:
        condition = self._either()
        if not self._take("?"):
            return condition
        yes = self.ternary()
        self._need(":")
        no = self.ternary()
        return lambda scope: yes(scope) if _truth(condition(scope)) else no(scope)

    def _either(self) -> Node:
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _shortcut(parts, until=True)

    def _both(self) -> Node:
        parts = [self._relation()]
        while self._take("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else _shortcut(parts, until=False)

    def _relation(self) -> Node:
        left = self._unary()
        for mark in ("==", "!=", "<=", ">=", "<", ">", "in"):
            if self._take(mark):
                right = self._unary()
                compare = _COMPARE[mark]
                return lambda scope: compare(left(scope), right(scope))
        return left

    def _unary(self) -> Node:
        if self._take("!"):
            inner = self._unary()
            return lambda scope: not _truth(inner(scope))
        if self._take("-"):
            number = self._unary()
            return lambda scope: -_numeric(number(scope))
        return self._member()

    def _member(self) -> Node:
        node = self._primary()
        while True:
            if self._take("."):
                node = self._selected(node, self._name())
            elif self._take("["):
                index = self.ternary()
                self._need("]")
                node = _indexed(node, index)
            else:
                return node

    def _selected(self, owner: Node, name: str) -> Node:
        if not self._take("("):
            return lambda scope: _select(owner(scope), name)
        arguments = self._arguments()
        method = _METHODS.get(name)
        if method is None or len(arguments) != (0 if name == "size" else 1):
            raise UnsupportedRuleError(f"{name}() is not known")
        return lambda scope: method(owner(scope), *(a(scope) for a in arguments))

    def _primary(self) -> Node:
        if self._take("("):
            inner = self.ternary()
            self._need(")")
            return inner
        if self._take("["):
            items = self._arguments("]")
            return lambda scope: [item(scope) for item in items]
        kind, text = self._next()
        if kind in ("number", "text"):
            literal = _literal(kind, text)
            return lambda _: literal
        if kind != "name":
            raise UnsupportedRuleError(f"{text!r} is not expected")
        if text in ("true", "false", "null"):
            word = {"true": True, "false": False, "null": None}[text]
            return lambda _: word
        if self._take("("):
            return self._call(text)
        if text != "self":
            raise UnsupportedRuleError(f"{text} is not known")
        return lambda scope: scope[text]

    def _call(self, name: str) -> Node:
        if name == "has":
            return self._has()
        arguments = self._arguments()
        function = _FUNCTIONS.get(name)
        if function is None or len(arguments) != 1:
            raise UnsupportedRuleError(f"{name}() is not known")
        return lambda scope: function(arguments[0](scope))

    def _has(self) -> Node:
        owner = self._primary()
        names = []
        while self._take("."):
            names.append(self._name())
        self._need(")")
        if not names:
            raise UnsupportedRuleError("has() needs a field")

        def present(scope: Scope) -> bool:
            value = owner(scope)
            for name in names[:-1]:
                value = _select(value, name)
            return isinstance(value, dict) and value.get(names[-1]) is not None

        return present

    def _arguments(self, closing: str = ")") -> list[Node]:
        found: list[Node] = []
        while not self._take(closing):
            if found:
                self._need(",")
            found.append(self.ternary())
        return found

    def _name(self) -> str:
        kind, text = self._next()
        if kind != "name":
            raise UnsupportedRuleError(f"{text!r} is no name")
        return text

    def _next(self) -> tuple[str, str]:
        if self._place == len(self._tokens):
            raise UnsupportedRuleError("it ends too early")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, text: str) -> bool:
        here = self._tokens[self._place] if self._place < len(self._tokens) else ("", "")
        if here[0] in ("mark", "name") and here[1] == text:
            self._place += 1
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise UnsupportedRuleError(f"{text!r} is missing")


def _literal(kind: str, text: str) -> Any:
    if kind == "number":
        return float(text) if set(text) & set(".eE") else int(text)
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise UnsupportedRuleError(f"{text[:40]} is no text") from None


def _shortcut(parts: list[Node], *, until: bool) -> Node:
    """Return `||` (until=True) or `&&`; as in CEL an error counts only if no other part decides."""

    def evaluate(scope: Scope) -> bool:
        problem: _EvaluationError | None = None
        for part in parts:
            try:
                if _truth(part(scope)) is until:
                    return until
            except _EvaluationError as exc:
                problem = problem or exc
        if problem is not None:
            raise problem
        return not until

    return evaluate


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _EvaluationError("no such overload")
    return value


def _numeric(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _EvaluationError("no such overload")
    return value


def _select(value: Any, name: str) -> Any:
    if not isinstance(value, dict) or value.get(name) is None:
        raise _EvaluationError(f"no such key: {name}")
    return value[name]


def _indexed(owner: Node, index: Node) -> Node:
    def evaluate(scope: Scope) -> Any:
        try:
            return owner(scope)[index(scope)]
        except (TypeError, LookupError):
            raise _EvaluationError("no such key") from None

    return evaluate


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def evaluate(left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return compare(left, right)
        return compare(_numeric(left), _numeric(right))

    return evaluate


def _contained(left: Any, right: Any) -> bool:
    if not isinstance(right, list | dict):
        raise _EvaluationError("no such overload")
    return left in right


def _of_texts(method: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def evaluate(owner: Any, argument: Any) -> bool:
        if not isinstance(owner, str) or not isinstance(argument, str):
            raise _EvaluationError("no such overload")
        return method(owner, argument)

    return evaluate


def _matches(text: str, pattern: str) -> bool:
    try:
        return compile_pattern(pattern).search(text) is not None
    except re.error as exc:
        raise _EvaluationError(str(exc)) from None


def _size(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise _EvaluationError("no such overload")
    return len(value)


def _number_of(kind: type[int | float]) -> Callable[[Any], float]:
    def convert(value: Any) -> float:
        try:
            return kind(value)
        except (TypeError, ValueError, OverflowError):
            raise _EvaluationError(f"type conversion error: {str(value)[:40]!r}") from None

    return convert


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<=": _ordered(lambda left, right: left <= right),
    ">=": _ordered(lambda left, right: left >= right),
    "<": _ordered(lambda left, right: left < right),
    ">": _ordered(lambda left, right: left > right),
    "in": _contained,
}
_METHODS: dict[str, Callable[..., Any]] = {
    "matches": _of_texts(_matches),
    "startsWith": _of_texts(str.startswith),
    "endsWith": _of_texts(str.endswith),
    "contains": _of_texts(str.__contains__),
    "size": _size,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "size": _size,
    "int": _number_of(int),
    "double": _number_of(float),
    "string": str,
}
