"""What a client reads before it asks for objects: version, health, discovery, OpenAPI."""

from __future__ import annotations

import platform
import sys

from aiohttp import web

from kubecore import discovery, openapi
from kubecore.answers import answer
from kubecore.discovery import Aggregated
from kubecore.errors import method_not_allowed, unknown_path
from kubecore.registry import Registry
from kubecore.requests import Target
from kubecore.store import Object

_HEALTH = ("healthz", "livez", "readyz")
VERSION: Object = {
    "major": "1",
    "minor": "32",
    # kubectl compares the minor version with its own, and reads nothing else of it.
    "gitVersion": "v1.32.0+armadillo",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": f"python{sys.version_info.major}.{sys.version_info.minor}",
    "platform": f"linux/{platform.machine()}",
}
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


class DocumentApi:
    """Serves every path that is no object."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def serve(self, request: web.Request, target: Target) -> web.Response:
        """Answer; 404 for a path that is not served."""
        parts = [part for part in target.path.split("/") if part]
        if target.verb != "get":
            raise method_not_allowed() if parts else unknown_path()
        match parts:
            case []:
                return answer(
                    {
                        "paths": [
                            "/api",
                            "/apis",
                            "/healthz",
                            "/livez",
                            "/openapi/v3",
                            "/readyz",
                            "/version",
                        ]
                    }
                )
            case ["version"]:
                return answer(VERSION)
            case [health, *_] if health in _HEALTH:
                return web.Response(text="ok")
            case ["openapi", *rest]:
                return self._openapi(request, rest)
            case ["api" | "apis", *_]:
                return self._discovery(request, parts)
        raise unknown_path()

    def _openapi(self, request: web.Request, parts: list[str]) -> web.Response:
        if parts == ["v2"]:
            return _openapi_v2(request)
        if parts[:1] != ["v3"]:
            raise unknown_path()
        if len(parts) == 1:
            return answer(openapi.v3_index(self._registry))
        document = openapi.v3_document(self._registry, "/".join(parts[1:]))
        if document is None:
            raise unknown_path()
        return answer(document)

    def _discovery(self, request: web.Request, parts: list[str]) -> web.Response:
        document: Object | None = None
        match parts:
            case ["api" | "apis" as root] if version := _aggregated(request):
                body = discovery.aggregated(self._registry, version, core=root == "api")
                response = answer(body)
                response.headers["Content-Type"] = discovery.aggregated_content_type(version)
                return response
            case ["api"]:
                document = discovery.api_versions(self._registry)
            case ["apis"]:
                document = discovery.api_group_list(self._registry)
            case ["apis", group]:
                document = discovery.api_group(self._registry, group)
            case ["api", version]:
                document = discovery.api_resource_list(self._registry, "", version)
            case ["apis", group, version]:
                document = discovery.api_resource_list(self._registry, group, version)
        if document is None:
            raise unknown_path()
        return answer(document)


def _openapi_v2(request: web.Request) -> web.Response:
    """Return an OpenAPI 2 document that defines nothing; the schemas are in version 3.

    kubectl asks for it when version 3 does not know a kind. A 404 here would end it with "could not find the
    requested resource"; so it goes on, finds the kind nowhere, and names it.
    """
    title, version = b"Kubernetes", str(VERSION["gitVersion"]).encode()
    if _V2_PROTOBUF not in request.headers.get("Accept", ""):
        info = {"title": title.decode(), "version": version.decode()}
        return answer({"swagger": "2.0", "info": info, "paths": {}, "definitions": {}})
    # gnostic's Document: 1 swagger, 2 info (1 title, 2 version), 8 paths, 9 definitions.
    packed = _field(1, title) + _field(2, version)
    body = _field(1, b"2.0") + _field(2, packed) + _field(8, b"") + _field(9, b"")
    response = web.Response(body=body)
    # "@", which the request carries, is not allowed in a media type: answers spell it with a dot.
    response.headers["Content-Type"] = _V2_PROTOBUF.replace("@", ".")
    return response


def _field(number: int, value: bytes) -> bytes:
    """Return a length-delimited protobuf field shorter than 128 bytes."""
    return bytes((number << 3 | 2, len(value))) + value


def _aggregated(request: web.Request) -> Aggregated | None:
    """Return the first aggregated form in Accept; None if a plain one comes before it."""
    for entry in ",".join(request.headers.getall("Accept", [])).split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        wanted = dict(p.partition("=")[::2] for p in parameters)
        if media != "application/json":
            continue
        if wanted.get("as") != "APIGroupDiscoveryList":
            return None
        if wanted.get("v") == "v2":
            return "v2"
        if wanted.get("v") == "v2beta1":
            return "v2beta1"
    return None
