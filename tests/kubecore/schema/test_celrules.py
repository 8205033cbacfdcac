"""Validation rules of CRDs: the part of CEL that is evaluated, its errors, and what is left alone."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.schema.celrules import UnsupportedRuleError, check_rules, compile_rule
from kubecore.schema.structural import validate


def broken(rule, value, message="no"):
    schema = {"x-kubernetes-validations": [{"rule": rule, "message": message}]}
    return [cause.message for cause in check_rules(schema, value, "spec")]


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ("self == 1", 1, True),
        ("self.a.b == 'x'", {"a": {"b": "x"}}, True),
        ("has(self.a) && self.a > 3", {"a": 3}, False),
        ("has(self.a) && self.a > 3", {}, False),
        ("!has(self.a) || self.a.matches('^[0-9]+$')", {"a": "12"}, True),
        ("!has(self.a) || self.a.matches('^[0-9]+$')", {"a": "x"}, False),
        ("self.a in ['x', \"y\"]", {"a": "y"}, True),
        ("double(self.a) <= double(self.b)", {"a": "1.5", "b": "-2e1"}, False),
        ("size(self) == 2 && self.size() >= 2", ["a", "b"], True),
        ("self[0].startsWith('a') && self[1].endsWith('b')", ["ax", "xb"], True),
        ("self ? true : false", True, True),
        ("-1 < self && (self < 5 || self == 7)", 7, True),
        ("self.x.y == 1 || true", {}, True),
        ("self.a.contains('b') != false", {"a": "abc"}, True),
    ],
)
def test_a_rule_holds_or_does_not(rule, value, holds):
    assert broken(rule, value) == ([] if holds else broken("false", value))


def test_the_message_is_the_rules_own():
    (message,) = broken("self == 1", 2, "must be one")
    assert "must be one" in message


@pytest.mark.parametrize("rule", ["self.a == 1", "double(self.b) > 0.0", "self.b > 1"])
def test_a_rule_that_cannot_be_evaluated_is_broken(rule):
    (message,) = broken(rule, {"b": "x"})
    assert "rule evaluation error" in message


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "self.all(x, x > 1)",
        "oldSelf == self",
        "self +",
        "self == 'x",
        "now()",
        "(" * 5000,
        "self self",
    ],
)
def test_what_is_not_understood_is_said_and_not_enforced(rule, caplog):
    with pytest.raises(UnsupportedRuleError):
        compile_rule(rule)
    with caplog.at_level(logging.WARNING):
        assert broken(rule, 1) == []


def test_rules_are_asked_about_values_of_the_right_shape_only():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a > 0", "message": "positive"}],
    }
    assert ["positive" in c.message for c in validate(schema, {"a": 0})] == [True]
    assert ["positive" in c.message for c in validate(schema, {"a": "x"})] == [False]


@given(st.text(alphabet="self.a()[]'\"<>=!&|?:-0123456789 ,inhas", max_size=40))
def test_no_rule_ends_the_process(rule):
    broken(rule, {"a": [1, "x"]})
