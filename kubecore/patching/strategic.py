"""Strategic merge patch: lists merged by key as the kind's schema says, with its `$` directives.

Directives: `$patch: delete|replace|merge`, `$setElementOrder/F`, `$deleteFromPrimitiveList/F`, `$retainKeys`.
"""

from __future__ import annotations

import copy
from typing import Any

from kubecore.kinds.shapes import Field, Shape, shape_of
from kubecore.patching.errors import PatchError

_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"
_PATCH = "$patch"
_ANY = Field(Shape("any"))


def apply_strategic(
    definition: str, current: dict[str, Any], patch: dict[str, Any]
) -> dict[str, Any]:
    """Return `current` with `patch` merged in as the built-in kind `definition` says.

    Raises:  PatchError: 400 for a directive or an element that makes no sense.
    """
    return _merge_map(shape_of(definition), copy.deepcopy(current), copy.deepcopy(patch))


def _merge_map(shape: Shape, current: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    match patch.pop(_PATCH, None):
        case None | "merge":
            pass
        case "replace":
            return {name: _without_directives(value) for name, value in patch.items()}
        case "delete":
            return {}
        case other:
            raise PatchError(400, f"Unknown patch type: {other}")
    _retain_keys(current, patch)
    orders = {key: patch.pop(key) for key in list(patch) if key.startswith(_ORDER)}
    for key in [key for key in patch if key.startswith(_DELETE)]:
        _delete_primitives(current, key.removeprefix(_DELETE), patch.pop(key))
    for name, value in patch.items():
        current_value = current.get(name)
        if value is None:
            current.pop(name, None)
            continue
        field = _field(shape, name)
        order = orders.pop(_ORDER + name, None)
        current[name] = _merge_field(field, name, current_value, value, order)
    for key, order in orders.items():  # an order alone also rearranges the list
        name = key.removeprefix(_ORDER)
        if isinstance(current.get(name), list):
            field = _field(shape, name)
            current[name] = _ordered(current[name], _checked_order(order, key), field.merge_key)
    return current


def _field(shape: Shape, name: str) -> Field:
    if shape.type == "map" and shape.element is not None:
        return Field(shape.element)
    return shape.properties.get(name, _ANY)


def _merge_field(field: Field, name: str, current: Any, value: Any, order: Any) -> Any:
    if isinstance(value, dict):
        if value.get(_PATCH) is None and not isinstance(current, dict):
            current = {}
        return _merge_map(field.shape, current if isinstance(current, dict) else {}, value)
    if isinstance(value, list) and "merge" in field.strategies:
        return _merge_list(field, name, current if isinstance(current, list) else [], value, order)
    return _without_directives(value)


def _retain_keys(current: dict[str, Any], patch: dict[str, Any]) -> None:
    """Drop from `current` every key that `$retainKeys` does not name (it changes a union's member)."""
    keys = patch.pop(_RETAIN, None)
    if keys is None:
        return
    if not isinstance(keys, list):
        raise PatchError(400, "$retainKeys must be a list")
    for name, value in patch.items():
        if value is not None and not name.startswith("$") and name not in keys:
            raise PatchError(400, f"{name} is not in $retainKeys")
    for name in [name for name in current if name not in keys]:
        del current[name]


def _delete_primitives(current: dict[str, Any], name: str, gone: Any) -> None:
    if not isinstance(gone, list):
        raise PatchError(400, f"{_DELETE}{name} must be a list")
    if isinstance(current.get(name), list):
        current[name] = [item for item in current[name] if item not in gone]


def _merge_list(
    field: Field, name: str, current: list[Any], patch: list[Any], order: Any
) -> list[Any]:
    if not field.merge_key:  # a set of scalars, such as finalizers
        merged = current + [item for item in patch if item not in current]
    else:
        merged = _merge_elements(field, name, current, patch)
    if order is not None:
        merged = _ordered(merged, _checked_order(order, _ORDER + name), field.merge_key)
    return merged


def _merge_elements(field: Field, name: str, current: list[Any], patch: list[Any]) -> list[Any]:
    key = field.merge_key
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" for item in patch):
        return [
            _without_directives(item)
            for item in patch
            if not (isinstance(item, dict) and item.get(_PATCH) == "replace")
        ]
    merged = list(current)
    element = field.shape.element or Shape("any")
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(
                400, f"map: {item!r} in {name} does not contain declared merge key: {key}"
            )
        places = [i for i, old in enumerate(merged) if _key_of(old, key) == item[key]]
        if item.get(_PATCH) == "delete":
            merged = [old for old in merged if _key_of(old, key) != item[key]]
        elif places:
            merged[places[0]] = _merge_map(element, merged[places[0]], item)
        else:
            merged.append(_merge_map(element, {}, item))
    return merged


def _key_of(element: Any, key: str) -> Any:
    return element.get(key) if isinstance(element, dict) else None


def _checked_order(order: Any, name: str) -> list[Any]:
    if not isinstance(order, list):
        raise PatchError(400, f"{name} must be a list")
    return order


def _ordered(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """Return `items` with those named in `order` in that order; the others keep their relative place."""

    def identity(item: Any) -> Any:
        return _key_of(item, key) if key else item

    wanted = [identity(o) if key and isinstance(o, dict) else o for o in order]
    ranks = {repr(value): rank for rank, value in enumerate(wanted)}
    listed = sorted(
        (item for item in items if repr(identity(item)) in ranks),
        key=lambda item: ranks[repr(identity(item))],
    )
    result: list[Any] = []
    waiting = iter(listed)
    for item in items:
        named = repr(identity(item)) in ranks
        result.append(next(waiting) if named else item)
    return result


def _without_directives(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_directives(item)
            for key, item in value.items()
            if not key.startswith("$") and item is not None
        }
    if isinstance(value, list):
        return [_without_directives(item) for item in value]
    return value
