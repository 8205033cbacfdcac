"""The OpenAPI 2 document, made of the OpenAPI 3 ones: kubectl reads it to validate lists and to merge what it applies.

It is one document for all groups. OpenAPI 2 has no oneOf, anyOf, not and nullable; where a schema needs them it says
less than version 3 does, so that a client which validates by it refuses nothing that the server takes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from kubecore.documents.openapi_wire import encode_document
from kubecore.kinds.definitions import referenced

Form = Literal["json", "protobuf"]
PROTOBUF_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    PROTOBUF_TYPE: "protobuf",
    # What clients send: the name from before `@` was found to be no legal character of a media type.
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf": "protobuf",
}
_KEPT = (
    "title",
    "description",
    "type",
    "format",
    "required",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
)
# Fields of these may hold what no OpenAPI 2 schema can tell: they are shown without a type, as anything.
_LOOSE = (
    "nullable",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
)
_PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Encoded:
    """The document as it is sent."""

    body: bytes
    content_type: str
    etag: str


def accepted_form(accept: str) -> Form | None:
    """Return the first form in an Accept header that is served; None if none is."""
    for entry in (accept or "*/*").split(","):
        form = _FORMS.get(entry.partition(";")[0].strip())
        if form is not None:
            return form
    return None


def encoded(documents: Iterable[dict[str, Any]], form: Form) -> Encoded:
    """Return the OpenAPI 3 `documents` as one OpenAPI 2 document."""
    document = as_v2(documents)
    if form == "json":
        body, content_type = msgspec.json.encode(document), "application/json"
    else:
        body, content_type = encode_document(document), PROTOBUF_TYPE
    return Encoded(body, content_type, hashlib.sha256(body).hexdigest()[:32].upper())


def as_v2(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI 3 `documents` as one OpenAPI 2 document, not encoded."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for document in documents:
        info = document["info"]
        schemas.update(document["components"]["schemas"])
        paths.update(document["paths"])
    return {
        "swagger": "2.0",
        "info": info,
        "paths": {path: _path_item(path, item, schemas) for path, item in paths.items()},
        "definitions": {name: _schema(node, schemas) for name, node in schemas.items()},
    }


def _schema(node: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in node.items() if key.startswith("x-")}
    if (name := _reference(node)) in known:
        kept = {"description": node["description"]} if "description" in node else {}
        return {"$ref": f"#/definitions/{name}"} | kept | out
    if any(node.get(key) for key in _LOOSE):
        return out | ({"description": node["description"]} if "description" in node else {})
    out |= {key: node[key] for key in _KEPT if key in node}
    if "oneOf" in node:  # Quantity and IntOrString, which clients of version 2 know as strings
        out.setdefault("type", "string")
    if "properties" in node:
        out["properties"] = {
            name: _schema(child, known) for name, child in node["properties"].items()
        }
    if isinstance(node.get("items"), dict):
        out["items"] = _schema(node["items"], known)
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        out["additionalProperties"] = _schema(extra, known)
    elif isinstance(extra, bool):
        out["additionalProperties"] = extra
    return out


def _reference(node: dict[str, Any]) -> str | None:
    # A CRD may hold an allOf too, even an empty one, and it means something else there.
    return referenced(node) if "$ref" in node or node.get("allOf") else None


def _path_item(path: str, item: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    names = [
        {"name": name, "in": "path", "required": True, "type": "string"}
        for name in _PARAMETER.findall(path)
    ]
    out = {method: _operation(operation, known) for method, operation in item.items()}
    return out | ({"parameters": names} if names else {})


def _operation(operation: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    out = {key: value for key, value in operation.items() if key.startswith("x-")}
    response = operation["responses"]["200"]
    out["produces"] = list(response["content"])
    out["responses"] = {
        "200": {
            "description": response["description"],
            "schema": _content_schema(response["content"], known),
        }
    }
    parameters = [
        {"name": one["name"], "in": one["in"], **one["schema"]}
        for one in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        out["consumes"] = list(content)
        schema = _content_schema(content, known)
        parameters.append({"name": "body", "in": "body", "required": True, "schema": schema})
    if parameters:
        out["parameters"] = parameters
    return out


def _content_schema(content: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return _schema(next(iter(content.values()))["schema"], known)
