"""Structural schemas of CRDs from the structs of `objects`: types, limits, descriptions and CEL rules. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from devicemodels.objects import Kind

Schema = dict[str, Any]
# KubeEdge keeps what it does not know in a status, and other controllers may write there.
OPEN_FIELDS = ("status",)


def kind_schema(kind: Kind) -> Schema:
    """Return the openAPIV3Schema of a kind."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    schema = _struct(found)
    for name in ("apiVersion", "kind"):
        schema["properties"][name] = {"type": "string"}
    schema["properties"]["metadata"] = {"type": "object"}
    for name in OPEN_FIELDS:
        if name in schema["properties"]:
            schema["properties"][name]["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _schema(found: inspect.Type) -> Schema:
    if isinstance(found, inspect.Metadata):
        return {**_schema(found.type), **(found.extra_json_schema or {})}
    if isinstance(found, inspect.UnionType):
        (inner,) = (t for t in found.types if not isinstance(t, inspect.NoneType))
        return _schema(inner)
    for kind, make in _MAKERS.items():
        if isinstance(found, kind):
            schema: Schema = make(found)
            return schema
    raise TypeError(f"no schema for {found}")


def _struct(found: inspect.StructType) -> Schema:
    properties = {field.encode_name: _schema(field.type) for field in found.fields}
    schema: Schema = {"type": "object", "properties": properties}
    if doc := (found.cls.__doc__ or "").split("\n\n")[0]:
        schema["description"] = doc
    if needed := [field.encode_name for field in found.fields if field.required]:
        schema["required"] = needed
    return schema


def _string(found: inspect.StrType) -> Schema:
    limits = {"maxLength": found.max_length, "pattern": found.pattern}
    return {"type": "string", **{k: v for k, v in limits.items() if v is not None}}


def _integer(found: inspect.IntType) -> Schema:
    limits = {"minimum": found.ge, "maximum": found.le}
    given = {k: v for k, v in limits.items() if v is not None}
    return {"type": "integer", "format": "int64", **given}


def _list(found: inspect.VarTupleType) -> Schema:
    schema: Schema = {"type": "array", "items": _schema(found.item_type)}
    if found.max_length is not None:
        schema["maxItems"] = found.max_length
    return schema


def _dict(found: inspect.DictType) -> Schema:
    if isinstance(found.value_type, inspect.AnyType):
        return {"type": "object"}
    return {"type": "object", "additionalProperties": _schema(found.value_type)}


_MAKERS: dict[type, Any] = {
    inspect.StructType: _struct,
    inspect.StrType: _string,
    inspect.IntType: _integer,
    inspect.BoolType: lambda _: {"type": "boolean"},
    inspect.LiteralType: lambda found: {"type": "string", "enum": list(found.values)},
    inspect.VarTupleType: _list,
    inspect.DictType: _dict,
}


def with_required_keys(schema: Schema) -> Schema:
    """Return `schema` with the keys of its map lists required in their items, as the API server demands."""
    if isinstance(items := schema.get("items"), dict):
        items = with_required_keys(items)
        if keys := schema.get("x-kubernetes-list-map-keys"):
            items["required"] = sorted({*items.get("required", ()), *keys})
        schema["items"] = items
    for name, inner in schema.get("properties", {}).items():
        schema["properties"][name] = with_required_keys(inner)
    return schema
