"""Who is asking: the subject of the client's certificate, or whom it may stand in for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kubecore.access.target import Target
from kubecore.errors import ApiStatusError, bad_request

AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"
_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True)
class User:
    """A known client."""

    name: str
    groups: tuple[str, ...]


def user_of(request: web.Request) -> User:
    """Return the user in the client's certificate: CN is the name, each O a group.

    Raises:  ApiStatusError 401: no certificate. One of a foreign authority never gets past the TLS handshake.
    """
    transport = request.transport
    certificate: Any = transport and transport.get_extra_info("peercert")
    if not certificate:
        raise ApiStatusError(
            401,
            "Unauthorized",
            "Unauthorized: this server knows its clients by certificate, and none came",
        )
    subject = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
    names = [value for key, value in subject if key == "commonName"]
    if not names or not names[0]:
        raise ApiStatusError(
            401, "Unauthorized", "Unauthorized: the certificate has no common name"
        )
    groups = [value for key, value in subject if key == "organizationName"]
    return User(names[0], (*groups, AUTHENTICATED))


def impersonated(request: web.Request) -> tuple[User | None, list[Target]]:
    """Return whom the client wants to act as, and what it must be allowed for that; None if itself."""
    headers = request.headers
    name = headers.get("Impersonate-User", "")
    groups = headers.getall("Impersonate-Group", [])
    others = [h for h in headers if h.lower().startswith(("impersonate-extra-", "impersonate-uid"))]
    if not name:
        if groups or others:
            raise bad_request("impersonation headers without Impersonate-User")
        return None, []
    needed = [_user_target(name)]
    needed += [_impersonate("groups", group) for group in groups]
    for header in others:
        kind = header.lower().removeprefix("impersonate-")
        plural = "uids" if kind == "uid" else "userextras"
        needed.append(_impersonate(plural, headers[header], kind.removeprefix("extra-")))
    if name.startswith(_ACCOUNT_PREFIX) and not groups:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return User(name, (*groups, *(() if AUTHENTICATED in groups else (AUTHENTICATED,)))), needed


def _user_target(name: str) -> Target:
    parts = name.removeprefix(_ACCOUNT_PREFIX).split(":")
    if name.startswith(_ACCOUNT_PREFIX) and len(parts) == 2:
        return Target(
            "impersonate", "", plural="serviceaccounts", namespace=parts[0], name=parts[1]
        )
    return _impersonate("users", name)


def _impersonate(plural: str, name: str, kind: str = "") -> Target:
    group = "authentication.k8s.io" if plural in ("uids", "userextras") else ""
    subresource = kind if plural == "userextras" else ""
    return Target("impersonate", "", group, "", plural, "", name, subresource)
