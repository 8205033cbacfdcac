"""OpenAPI 2 as protobuf, which is the only form that kubectl asks for.

Source:  google/gnostic openapiv2/OpenAPIv2.proto (message and field numbers). Only writing is needed, and only for
what our document holds, so this does without the protobuf package and the 2 MB of its descriptors.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

# Returns one field: its tag and its value.
_Writer = Callable[[int, Any], bytes]
_Fields = Mapping[str, tuple[int, _Writer]]

_VARINT, _FIXED64, _CHUNK = 0, 1, 2
_UINT64 = (1 << 64) - 1


def encode_document(document: dict[str, Any]) -> bytes:
    """Return an OpenAPI 2 document as a protobuf `openapi.v2.Document`."""
    return _fields(document, _DOCUMENT, extensions=16)


def _fields(value: dict[str, Any], fields: _Fields, extensions: int) -> bytes:
    """Return the content of a message; `x-` keys go to the field number `extensions`."""
    parts = []
    for key, item in value.items():
        if key in fields:
            number, write = fields[key]
            parts.append(write(number, item))
        elif key.startswith("x-"):
            parts.append(_chunk(extensions, _string(1, key) + _any(2, item)))
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _chunk(number: int, content: bytes) -> bytes:
    return b"%b%b%b" % (_varint(number << 3 | _CHUNK), _varint(len(content)), content)


def _string(number: int, value: str) -> bytes:
    return _chunk(number, value.encode())


def _strings(number: int, values: list[str]) -> bytes:
    return b"".join(_string(number, value) for value in values)


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(int(value) & _UINT64)


def _boolean(number: int, value: Any) -> bytes:
    return _integer(number, bool(value))


def _double(number: int, value: float) -> bytes:
    limit = sys.float_info.max  # an integer of a CRD may be too large for a double
    return _varint(number << 3 | _FIXED64) + struct.pack("<d", max(-limit, min(limit, value)))


def _any(number: int, value: Any) -> bytes:
    # `Any.yaml` holds YAML, and JSON is YAML.
    return _chunk(number, _chunk(2, msgspec.json.encode(value)))


def _anys(number: int, values: list[Any]) -> bytes:
    return b"".join(_any(number, value) for value in values)


def _named(number: int, values: dict[str, Any], write: _Writer) -> bytes:
    """Return a map: repeated messages with `name` = 1 and `value` = 2."""
    return b"".join(
        _chunk(number, _string(1, name) + write(2, value)) for name, value in values.items()
    )


def _schema(number: int, value: dict[str, Any]) -> bytes:
    return _chunk(number, _fields(value, _SCHEMA, extensions=31))


def _schemas(number: int, values: dict[str, Any]) -> bytes:
    return _chunk(number, _named(1, values, _schema))


def _additional(number: int, value: Any) -> bytes:
    return _chunk(number, _boolean(2, value) if isinstance(value, bool) else _schema(1, value))


def _paths(number: int, values: dict[str, Any]) -> bytes:
    return _chunk(number, _named(2, values, _path_item))


def _path_item(number: int, value: dict[str, Any]) -> bytes:
    return _chunk(number, _fields(value, _PATH_ITEM, extensions=10))


def _operation(number: int, value: dict[str, Any]) -> bytes:
    return _chunk(number, _fields(value, _OPERATION, extensions=13))


def _responses(number: int, values: dict[str, Any]) -> bytes:
    return _chunk(number, _named(1, values, _response))


def _response(number: int, value: dict[str, Any]) -> bytes:
    return _chunk(number, _chunk(1, _fields(value, _RESPONSE, extensions=5)))


def _parameters(number: int, values: list[dict[str, Any]]) -> bytes:
    return b"".join(_chunk(number, _chunk(1, _parameter(value))) for value in values)


def _parameter(value: dict[str, Any]) -> bytes:
    """Return the content of a `Parameter`: each place has a message of its own."""
    if value["in"] == "body":
        return _chunk(1, _fields(value, _BODY, extensions=6))
    if value["in"] == "query":
        return _chunk(2, _chunk(3, _fields(value, _QUERY, extensions=23)))
    return _chunk(2, _chunk(4, _fields(value, _PATH, extensions=22)))


_SCHEMA: _Fields = {
    "$ref": (1, _string),
    "format": (2, _string),
    "title": (3, _string),
    "description": (4, _string),
    "multipleOf": (6, _double),
    "maximum": (7, _double),
    "exclusiveMaximum": (8, _boolean),
    "minimum": (9, _double),
    "exclusiveMinimum": (10, _boolean),
    "maxLength": (11, _integer),
    "minLength": (12, _integer),
    "pattern": (13, _string),
    "maxItems": (14, _integer),
    "minItems": (15, _integer),
    "uniqueItems": (16, _boolean),
    "maxProperties": (17, _integer),
    "minProperties": (18, _integer),
    "required": (19, _strings),
    "enum": (20, _anys),
    "additionalProperties": (21, _additional),
    "type": (22, lambda number, value: _chunk(number, _string(1, value))),
    "items": (23, lambda number, value: _chunk(number, _schema(1, value))),
    "properties": (25, _schemas),
}
_BODY: _Fields = {
    "name": (2, _string),
    "in": (3, _string),
    "required": (4, _boolean),
    "schema": (5, _schema),
}
_QUERY: _Fields = {
    "in": (2, _string),
    "name": (4, _string),
    "type": (6, _string),
    "uniqueItems": (20, _boolean),
}
_PATH: _Fields = {
    "required": (1, _boolean),
    "in": (2, _string),
    "name": (4, _string),
    "type": (5, _string),
}
_RESPONSE: _Fields = {
    "description": (1, _string),
    "schema": (2, lambda number, value: _chunk(number, _schema(1, value))),
}
_OPERATION: _Fields = {
    "produces": (6, _strings),
    "consumes": (7, _strings),
    "parameters": (8, _parameters),
    "responses": (9, _responses),
}
_PATH_ITEM: _Fields = {
    "get": (2, _operation),
    "put": (3, _operation),
    "post": (4, _operation),
    "delete": (5, _operation),
    "patch": (8, _operation),
    "parameters": (9, _parameters),
}
_INFO: _Fields = {"title": (1, _string), "version": (2, _string)}
_DOCUMENT: _Fields = {
    "swagger": (1, _string),
    "info": (2, lambda number, value: _chunk(number, _fields(value, _INFO, extensions=7))),
    "paths": (8, _paths),
    "definitions": (9, _schemas),
}
