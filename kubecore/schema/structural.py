"""Structural schemas of CRDs: drop what is unknown, fill in defaults, validate, in that order."""

from __future__ import annotations

import copy
from typing import Any

from kubecore.schema.celrules import check_rules
from kubecore.values.invalid import Cause
from kubecore.values.structural_rules import check_value

_META_FIELDS = frozenset({"apiVersion", "kind", "metadata"})


def prune(schema: dict[str, Any], value: Any, path: str = "", *, root: bool = False) -> list[str]:
    """Remove from `value` (in place) the fields that `schema` does not have; return their paths."""
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return []
        return [
            gone
            for index, item in enumerate(value)
            for gone in prune(items, item, f"{path}[{index}]")
        ]
    if not isinstance(value, dict):
        return []
    keeps_meta = root or schema.get("x-kubernetes-embedded-resource", False)
    gone: list[str] = []
    for name in list(value):
        where = f"{path}.{name}" if path else name
        if keeps_meta and name in _META_FIELDS:
            continue
        child = _child(schema, name)
        if child is not None:
            gone += prune(child, value[name], where)
        elif not schema.get("x-kubernetes-preserve-unknown-fields"):
            del value[name]
            gone.append(where)
    return gone


def apply_defaults(schema: dict[str, Any], value: Any) -> None:
    """Fill in the schema's defaults, in place, and drop nulls from fields that may not be null."""
    if isinstance(value, list):
        items = schema.get("items")
        if isinstance(items, dict):
            for item in value:
                apply_defaults(items, item)
        return
    if not isinstance(value, dict):
        return
    for name, child in schema.get("properties", {}).items():
        if name in value and value[name] is None and not child.get("nullable"):
            del value[name]
        if name not in value and "default" in child:
            value[name] = copy.deepcopy(child["default"])
    for name, item in value.items():
        grandchild = _child(schema, name)
        if grandchild is not None:
            apply_defaults(grandchild, item)


def validate(schema: dict[str, Any], value: Any, path: str = "") -> list[Cause]:
    """Return everything in `value` that breaks `schema`."""
    if value is None and schema.get("nullable"):
        return []
    causes = check_value(schema, value, path)
    if isinstance(value, dict):
        for name, item in value.items():
            child = _child(schema, name)
            if child is not None:
                causes += validate(child, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            causes += validate(schema["items"], item, f"{path}[{index}]")
    # As in the API server: rules are asked about values of the right shape only.
    if not causes and "x-kubernetes-validations" in schema:
        causes = check_rules(schema, value, path)
    return causes + _check_combinations(schema, value, path)


def _check_combinations(schema: dict[str, Any], value: Any, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for part in schema.get("allOf", ()):
        causes += validate(part, value, path)
    if "anyOf" in schema and not any(_fits(part, value, path) for part in schema["anyOf"]):
        causes.append(_combination(path, "must validate at least one schema (anyOf)"))
    if "oneOf" in schema and sum(_fits(part, value, path) for part in schema["oneOf"]) != 1:
        causes.append(_combination(path, "must validate one and only one schema (oneOf)"))
    if "not" in schema and _fits(schema["not"], value, path):
        causes.append(_combination(path, "must not validate the schema (not)"))
    return causes


def _fits(schema: dict[str, Any], value: Any, path: str) -> bool:
    return not validate(schema, value, path)


def _combination(path: str, rule: str) -> Cause:
    shown = path or "<nil>"
    return Cause(shown, "FieldValueInvalid", f'Invalid value: "": "{path}" {rule}')


def _child(schema: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the schema of the field `name`, {} if anything goes there, None if it is unknown."""
    child = schema.get("properties", {}).get(name)
    if isinstance(child, dict):
        return child
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return extra
    return {"x-kubernetes-preserve-unknown-fields": True} if extra is True else None
