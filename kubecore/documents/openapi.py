"""OpenAPI 3 documents, one per group and version: kubectl's validation, `explain`, `edit` and `apply` read them.

`openapi_v2` makes the one document of version 2 of them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kubecore.documents.openapi_v2 import Encoded, Form, encoded
from kubecore.kinds.definitions import RELEASE, definitions, referenced
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_REF = "#/components/schemas/"
_JSON_BODY = ("application/json", "application/yaml")
_PATCH_BODY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class OpenApi:
    """The documents of a registry, made once per state of it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._revision = -1
        self._documents: dict[str, dict[str, Any]] = {}
        self._index: dict[str, Any] = {}
        self._v2: dict[Form, Encoded] = {}

    def index(self) -> dict[str, Any]:
        """Return `/openapi/v3`: where each document is, with a hash that changes with its content."""
        self._refresh()
        return self._index

    def document(self, path: str) -> dict[str, Any] | None:
        """Return the document at `api/v1` or `apis/GROUP/VERSION`, or None."""
        self._refresh()
        return self._documents.get(path.strip("/"))

    def v2(self, form: Form) -> Encoded:
        """Return `/openapi/v2`: all of it in one document."""
        self._refresh()
        if form not in self._v2:
            self._v2[form] = encoded(self._documents.values(), form)
        return self._v2[form]

    def _refresh(self) -> None:
        if self._revision == self._registry.revision:
            return
        by_path: dict[str, list[Resource]] = {}
        for resource in self._registry.resources():
            by_path.setdefault(_root(resource).strip("/"), []).append(resource)
        self._documents = {path: _document(found) for path, found in by_path.items()}
        self._index = {
            "paths": {
                path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_digest(document)}"}
                for path, document in self._documents.items()
            }
        }
        self._v2 = {}
        self._revision = self._registry.revision


def v3_index(registry: Registry) -> dict[str, Any]:
    """Return `/openapi/v3` of `registry`."""
    return _of(registry).index()


def v3_document(registry: Registry, path: str) -> dict[str, Any] | None:
    """Return the document at `path` (`api/v1`, `apis/GROUP/VERSION`), or None."""
    return _of(registry).document(path)


def v2_document(registry: Registry, form: Form) -> Encoded:
    """Return `/openapi/v2` of `registry`."""
    return _of(registry).v2(form)


def _of(registry: Registry) -> OpenApi:
    if registry.openapi is None:
        registry.openapi = OpenApi(registry)
    assert isinstance(registry.openapi, OpenApi)
    return registry.openapi


def _digest(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest()[:32].upper()


def _root(resource: Resource) -> str:
    return f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.version}"


def _document(resources: list[Resource]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for resource in resources:
        name = schema_name(resource)
        if resource.schema is None:
            _collect(name, schemas)
        else:
            schemas[name] = _custom_schema(resource)
            _collect(_META + "ObjectMeta", schemas)
        schemas[name + "List"] = _list_schema(resource, name)
        _collect(_META + "ListMeta", schemas)
        paths.update(_paths(resource, name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{RELEASE}.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def schema_name(resource: Resource) -> str:
    """Return the name of the kind's schema: a CRD's group reversed, as the API server does."""
    if resource.schema is None:
        return resource.definition
    reversed_group = ".".join(reversed(resource.group.split(".")))
    return f"{reversed_group}.{resource.version}.{resource.kind}"


def _collect(name: str, schemas: dict[str, Any]) -> None:
    """Add the definition `name` and all it refers to."""
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in schemas:
            schemas[current] = definitions()[current]
            waiting.extend(_references(schemas[current]))


def _references(schema: dict[str, Any]) -> list[str]:
    found = []
    for child in schema.get("properties", {}).values():
        for node in (child, child.get("items"), child.get("additionalProperties")):
            if isinstance(node, dict):
                name = referenced(node)
                found += [name] if name else _references(node)
                if isinstance(node.get("items"), dict):
                    found += _references({"properties": {"items": node["items"]}})
    return found


def _kinds(resource: Resource, suffix: str = "") -> dict[str, str]:
    kind = resource.kind_of_list if suffix else resource.kind
    return {"group": resource.group, "version": resource.version, "kind": kind}


def _custom_schema(resource: Resource) -> dict[str, Any]:
    schema = dict(resource.schema or {})
    own = schema.get("properties") or {}
    identity = definitions()[_META + "Status"]["properties"]
    schema["properties"] = {
        **own,
        "apiVersion": identity["apiVersion"],
        "kind": identity["kind"],
        "metadata": {
            "allOf": [{"$ref": f"{_REF}{_META}ObjectMeta"}],
            "description": "Standard object's metadata.",
        },
    }
    schema["x-kubernetes-group-version-kind"] = [_kinds(resource)]
    return schema


def _list_schema(resource: Resource, name: str) -> dict[str, Any]:
    identity = definitions()[_META + "Status"]["properties"]
    return {
        "description": f"{resource.kind_of_list} is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": identity["apiVersion"],
            "kind": identity["kind"],
            "metadata": {"$ref": f"{_REF}{_META}ListMeta"},
            "items": {"type": "array", "items": {"$ref": _REF + name}},
        },
        "x-kubernetes-group-version-kind": [_kinds(resource, "List")],
    }


def _paths(resource: Resource, name: str) -> dict[str, Any]:
    root = _root(resource)
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    every = f"{root}{scope}/{resource.plural}"
    one = f"{every}/{{name}}"
    listing = {"get": _operation(resource, name + "List", "list")}
    paths = {
        every: listing | {"post": _operation(resource, name, "post", _JSON_BODY)},
        one: _single(resource, name),
    }
    if resource.namespaced:
        paths[f"{root}/{resource.plural}"] = listing
    if resource.has_status:
        status = _single(resource, name)
        del status["delete"]
        paths[f"{one}/status"] = status
    return paths


def _single(resource: Resource, name: str) -> dict[str, Any]:
    patches = _PATCH_BODY if resource.schema is None else _PATCH_BODY[:2]
    return {
        "get": _operation(resource, name, "get"),
        "put": _operation(resource, name, "put", _JSON_BODY),
        "patch": _operation(resource, name, "patch", patches),
        "delete": _operation(resource, name, "delete"),
    }


def _operation(
    resource: Resource, schema: str, action: str, bodies: tuple[str, ...] = ()
) -> dict[str, Any]:
    content = {"schema": {"$ref": _REF + schema}}
    operation: dict[str, Any] = {
        "responses": {"200": {"description": "OK", "content": {"application/json": content}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kinds(resource),
    }
    if bodies:
        # kubectl looks for fieldValidation here, under PATCH, before it trusts the server to validate.
        operation["parameters"] = [
            _query("dryRun"),
            _query("fieldManager"),
            _query("fieldValidation"),
        ]
        body = {"schema": {"type": "object"}} if action == "patch" else content
        operation["requestBody"] = {"content": dict.fromkeys(bodies, body)}
    return operation


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
