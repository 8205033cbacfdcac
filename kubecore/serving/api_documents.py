"""What a client reads before it asks for objects: version, health, discovery, OpenAPI."""

from __future__ import annotations

import platform
import sys

from aiohttp import web

from kubecore.access.accounts import Accounts
from kubecore.access.target import Target
from kubecore.documents import discovery, openapi
from kubecore.documents.discovery import Aggregated
from kubecore.documents.openapi_v2 import PROTOBUF_TYPE, accepted_form
from kubecore.errors import ApiStatusError, method_not_allowed, unknown_path
from kubecore.kinds.registry import Registry
from kubecore.serving.answers import answer
from kubecore.storage.store import Object

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


class DocumentApi:
    """Serves every path that is no object."""

    def __init__(self, registry: Registry, accounts: Accounts) -> None:
        self._registry, self._accounts = registry, accounts

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
                            "/.well-known/openid-configuration",
                            "/api",
                            "/apis",
                            "/healthz",
                            "/livez",
                            "/openapi/v2",
                            "/openapi/v3",
                            "/openid/v1/jwks",
                            "/readyz",
                            "/version",
                        ]
                    }
                )
            case [".well-known", "openid-configuration"]:
                return answer(self._accounts.discovery())
            case ["openid", "v1", "jwks"]:
                return answer(self._accounts.jwks())
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
            return _openapi_v2(request, self._registry)
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


def _openapi_v2(request: web.Request, registry: Registry) -> web.Response:
    accept = ",".join(request.headers.getall("Accept", []))
    form = accepted_form(accept)
    if form is None:
        problem = f"/openapi/v2 is served as {PROTOBUF_TYPE} and application/json"
        raise ApiStatusError(406, "NotAcceptable", f"{problem} (Accept was {accept[:200]!r})")
    document = openapi.v2_document(registry, form)
    headers = {"ETag": f'"{document.etag}"', "Vary": "Accept"}
    known = request.if_none_match or ()
    if any(tag.value in ("*", document.etag) for tag in known):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = document.content_type
    return web.Response(body=document.body, headers=headers)


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
