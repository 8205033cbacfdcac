"""Who is asking: the subject of the client's certificate, or whom it may stand in for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from kubecore.access.errors import TokenError
from kubecore.access.target import Target
from kubecore.errors import ApiStatusError, bad_request

logger = logging.getLogger(__name__)

AUTHENTICATED = "system:authenticated"
MASTERS = "system:masters"
_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True)
class User:
    """A known client."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict, compare=False)


class TokenHolders(Protocol):
    """What knows bearer tokens; `kubecore.access.accounts.Accounts` does."""

    def user(self, token: str) -> tuple[User, list[str]]:
        """Return whose token it is, and its audiences. Raises:  TokenError."""


def user_of(request: web.Request, holders: TokenHolders) -> User:
    """Return the user in the client's certificate (CN is the name, each O a group), or the holder of its token.

    Raises:  ApiStatusError 401: neither. A foreign certificate never gets past the TLS handshake.
    """
    transport = request.transport
    certificate: Any = transport and transport.get_extra_info("peercert")
    if not certificate:
        return _holder(request, holders)
    subject = [pair for rdn in certificate.get("subject", ()) for pair in rdn]
    names = [value for key, value in subject if key == "commonName"]
    if not names or not names[0]:
        raise ApiStatusError(
            401, "Unauthorized", "Unauthorized: the certificate has no common name"
        )
    groups = [value for key, value in subject if key == "organizationName"]
    return User(names[0], (*groups, AUTHENTICATED))


def _holder(request: web.Request, holders: TokenHolders) -> User:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    problem = "this server knows its clients by certificate or service account token, and none came"
    if scheme.lower() == "bearer" and token.strip():
        try:
            return holders.user(token.strip())[0]
        except TokenError as exc:
            logger.info("token refused: %s", exc)
            problem = "the token is not valid"  # why is for the log: the client may be guessing
    raise ApiStatusError(401, "Unauthorized", f"Unauthorized: {problem}")


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
