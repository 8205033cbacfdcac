"""What a request is about, read from its method and path: what rules name; nothing is decided here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_TRUE = ("true", "1", "True")


@dataclass(frozen=True)
class Target:
    """What a request is about: an API path (`plural` is set) or some other path of the server."""

    verb: str
    path: str
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    field_selector: str = ""
    tail: str = ""  # of a proxied request: the path below `proxy`, as it came; "" for none

    @property
    def resource(self) -> str:
        """Return `pods` or `pods/status`, as rules and messages name it."""
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural


def target_of(request: web.Request) -> Target:
    """Return what `request` is about."""
    path, method = request.path, request.method
    parts = [part for part in path.split("/") if part]
    plain = Target(method.lower().replace("head", "get"), path)
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return plain
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if len(rest) > 2 and rest[2] == "proxy":
        return _proxied(request, group, version, namespace, rest)
    if len(rest) > 3:
        return Target(
            _verb(request, named=True),
            path,
            group,
            version,
            rest[0],
            namespace,
            rest[1],
            "/".join(rest[2:]),
        )
    plural, name, subresource = (*rest, "", "")[:3]
    if plural == "namespaces":
        namespace = name  # so that rights in a namespace cover the namespace object itself
    return Target(
        _verb(request, named=bool(name)),
        path,
        group,
        version,
        plural,
        namespace,
        name,
        subresource,
        request.query.get("fieldSelector", ""),
    )


def _proxied(
    request: web.Request, group: str, version: str, namespace: str, rest: list[str]
) -> Target:
    # By count, not by name: a namespace may be called `proxy` too.
    found = re.match(rf"(?:/+[^/]+){{{_above(group, namespace)}}}", request.rel_url.raw_path)
    tail = request.rel_url.raw_path[found.end() :] if found else ""
    verb = _verb(request, named=True)
    return Target(
        verb, request.path, group, version, rest[0], namespace, rest[1], "proxy", tail=tail
    )


def _above(group: str, namespace: str) -> int:
    """Return of how many parts the path of a proxied object is, `proxy` included."""
    return 2 + bool(group) + (2 if namespace else 0) + 3


def _verb(request: web.Request, *, named: bool) -> str:
    if request.method in ("GET", "HEAD"):
        if named:
            return "get"
        return "watch" if flag(request, "watch") else "list"
    if request.method == "DELETE":
        return "delete" if named else "deletecollection"
    return _VERBS.get(request.method, request.method.lower())


def flag(request: web.Request, name: str) -> bool:
    """Return a boolean parameter of the query."""
    return request.query.get(name, "") in _TRUE
