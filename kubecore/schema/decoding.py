"""Decode a body into a built-in kind: types as Go would take them, unknown fields found, nulls dropped."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from corekit.timestamps import parse_rfc3339
from kubecore.kinds.shapes import Shape, shape_of
from kubecore.values.invalid import Cause, required
from kubecore.values.quantities import canonical_quantity

# A body nested deeper than any kind is an attack or a mistake; Go's decoder stops at 10,000.
MAX_DEPTH = 100
_INT_LIMITS = {"int32": 1 << 31, "int64": 1 << 63}
# Required by the OpenAPI definitions but not by the API server.
_NOT_REALLY_REQUIRED = frozenset({"rules", "message", "reason", "value", "apiGroup", "endpoints"})


class DecodeError(ValueError):
    """A value has the wrong type for its field."""


@dataclass
class Decoded:
    """What came out of one body."""

    obj: dict[str, Any]
    unknown: list[str] = field(default_factory=list)  # paths of fields the kind does not have
    missing: list[Cause] = field(default_factory=list)


def decode(definition: str, kind: str, obj: dict[str, Any]) -> Decoded:
    """Return `obj` as its kind would be decoded; `status` is not checked for required fields.

    Raises:  DecodeError: a field has the wrong type.
    """
    walk = _Walk(kind)
    decoded = walk.value(shape_of(definition), obj, "", 0, strict=True)
    return Decoded(decoded, walk.unknown, walk.missing)


class _Walk:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.unknown: list[str] = []
        self.missing: list[Cause] = []

    def value(self, shape: Shape, value: Any, path: str, depth: int, *, strict: bool) -> Any:
        """Return the decoded value; `strict` says whether required fields must be there."""
        if depth > MAX_DEPTH:
            raise DecodeError(f"{path}: nested deeper than {MAX_DEPTH} levels")
        if shape.type == "object":
            return self._struct(shape, value, path, depth, strict=strict)
        if shape.type == "map":
            self._expect(value, dict, path, "map")
            return {
                key: self._element(shape, item, f"{path}[{key}]", depth, strict=strict)
                for key, item in value.items()
            }
        if shape.type == "array":
            self._expect(value, list, path, "slice")
            return [
                self._element(shape, item, f"{path}[{index}]", depth, strict=strict)
                for index, item in enumerate(value)
            ]
        return self._scalar(shape, value, path)

    def _struct(
        self, shape: Shape, value: Any, path: str, depth: int, *, strict: bool
    ) -> dict[str, Any]:
        self._expect(value, dict, path, "struct")
        out: dict[str, Any] = {}
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            known = shape.properties.get(name)
            if known is None:
                self.unknown.append(where)
            elif item is not None:  # null is "not set" to Go
                needs = strict and where != "status"
                out[name] = self.value(known.shape, item, where, depth + 1, strict=needs)
        if strict:
            for name in shape.required:
                if out.get(name) in (None, "", []) and name not in _NOT_REALLY_REQUIRED:
                    self.missing.append(required(f"{path}.{name}" if path else name))
        return out

    def _element(self, shape: Shape, item: Any, path: str, depth: int, *, strict: bool) -> Any:
        element = shape.element or Shape("any")
        if item is None:  # Go: the zero value of the element
            item = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}.get(
                element.type, {}
            )
        return self.value(element, item, path, depth + 1, strict=strict)

    def _scalar(self, shape: Shape, value: Any, path: str) -> Any:
        match shape.type:
            case "string":
                self._expect(value, str, path, _go_type(shape))
                self._check_format(shape.format, value, path)
            case "boolean":
                self._expect(value, bool, path, "bool")
            case "integer":
                self._integer(shape, value, path)
            case "number":
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    self._wrong(value, path, "float64")
            case "int-or-string":
                if isinstance(value, bool) or not isinstance(value, (int, str)):
                    self._wrong(value, path, "intstr.IntOrString")
            case "quantity":
                return self._quantity(value, path)
        return value

    def _integer(self, shape: Shape, value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(value, path, _go_type(shape))
        limit = _INT_LIMITS.get(shape.format, 1 << 63)
        if not -limit <= value < limit:
            raise DecodeError(
                f"json: cannot unmarshal number {value} into Go struct field {self.kind}.{path} "
                f"of type {_go_type(shape)}"
            )

    def _quantity(self, value: Any, path: str) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            self._wrong(value, path, "resource.Quantity")
        try:
            return canonical_quantity(value)
        except ValueError as exc:
            raise DecodeError(f"{path}: {exc}") from exc

    def _check_format(self, kind: str, value: str, path: str) -> None:
        try:
            if kind == "date-time":
                parse_rfc3339(value)
            elif kind == "byte":
                base64.b64decode(value, validate=True)
        except binascii.Error as exc:
            raise DecodeError(f"{path}: illegal base64 data: {exc}") from exc
        except ValueError as exc:
            raise DecodeError(
                f'{path}: parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse it'
            ) from exc

    def _expect(self, value: Any, kind: type, path: str, go_type: str) -> None:
        if not isinstance(value, kind):
            self._wrong(value, path, go_type)

    def _wrong(self, value: Any, path: str, go_type: str) -> None:
        where = f"Go struct field {self.kind}.{path}" if path else "Go value"
        raise DecodeError(
            f"json: cannot unmarshal {_json_type(value)} into {where} of type {go_type}"
        )


def _go_type(shape: Shape) -> str:
    if shape.type == "integer":
        return shape.format or "int64"
    return {"date-time": "v1.Time", "byte": "[]uint8"}.get(shape.format, "string")


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
