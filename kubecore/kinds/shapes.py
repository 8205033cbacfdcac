"""Built-in kinds as trees of `Shape`: what decoding, strategic merge and validation walk."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from kubecore.kinds.definitions import definitions, referenced


@dataclass(eq=False, slots=True)
class Shape:
    """One type: a scalar, a list or map of `element`, a struct of `properties`, or anything."""

    type: str  # string boolean integer number int-or-string quantity array map object any
    format: str = ""
    element: Shape | None = None
    properties: dict[str, Field] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class Field:
    """A field of a struct: its shape, and how a strategic merge patch treats it."""

    shape: Shape
    merge_key: str = ""
    strategies: frozenset[str] = frozenset()  # merge, replace, retainKeys


@functools.cache
def shape_of(definition: str) -> Shape:
    """Return the shape of the built-in definition `definition`."""
    return _Builder().named(definition)


class _Builder:
    def __init__(self) -> None:
        self._done: dict[str, Shape] = {}

    def named(self, name: str) -> Shape:
        if name not in self._done:
            # Known before it is filled: JSONSchemaProps contains itself.
            shape = self._done[name] = Shape("any")
            self._fill(shape, definitions()[name])
        return self._done[name]

    def _shape(self, schema: dict[str, Any]) -> Shape:
        if name := referenced(schema):
            return self.named(name)
        shape = Shape("any")
        self._fill(shape, schema)
        return shape

    def _fill(self, shape: Shape, schema: dict[str, Any]) -> None:
        shape.type, shape.format = _type_of(schema), schema.get("format", "")
        shape.required = tuple(schema.get("required", ()))
        for name, child in schema.get("properties", {}).items():
            strategies = child.get("x-kubernetes-patch-strategy", "")
            shape.properties[name] = Field(
                self._shape(child),
                child.get("x-kubernetes-patch-merge-key", ""),
                frozenset(strategies.split(",")) if strategies else frozenset(),
            )
        inner = schema.get("items") or schema.get("additionalProperties")
        if isinstance(inner, dict):
            shape.element = self._shape(inner)


def _type_of(schema: dict[str, Any]) -> str:
    if "oneOf" in schema:
        return "int-or-string" if schema.get("format") == "int-or-string" else "quantity"
    kind: str = schema.get("type", "any")
    if kind != "object" or "properties" in schema:
        return kind
    # An object without fields is a map, or (FieldsV1, RawExtension) free-form.
    return "map" if "additionalProperties" in schema else "any"
