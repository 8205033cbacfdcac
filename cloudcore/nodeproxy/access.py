"""Who asks, and whether they may: delegated to the cluster, as kubelet does it. There is no off switch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudcore.kube.reviews import AUTHENTICATED, Api, DeniedError, Reviews, User


@dataclass(frozen=True)
class Question:
    """One access to one node; `subresource` is kubelet's word for the part of its API."""

    node: str
    verb: str
    subresource: str


class Access:
    """Authenticates by client certificate or bearer token, then asks the cluster for each kind of access."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviews = Reviews(api, "nodeproxy", clock)

    async def user(self, certificate: Mapping[str, Any] | None, authorization: str) -> User:
        """Return who asks.

        Shapes:  certificate: as `ssl` gives it, verified already; authorization: the header, "" if none.
        Raises:  UnauthenticatedError, ReviewError.
        """
        if certificate and (named := _subject(certificate)) is not None:
            return named
        return await self._reviews.holder(authorization)

    async def check(self, user: User, question: Question) -> None:
        """Return if `user` may. Raises: DeniedError, ReviewError."""
        attributes = {
            "verb": question.verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": question.subresource,
            "name": question.node,
        }
        if not await self._reviews.allows(user, attributes):
            raise DeniedError(
                f"Forbidden (user={user.username}, verb={question.verb}, resource=nodes, "
                f"subresource={question.subresource})"
            )


def _subject(certificate: Mapping[str, Any]) -> User | None:
    parts: dict[str, list[str]] = {}
    for part in certificate.get("subject", ()):
        for name, value in part:
            parts.setdefault(name, []).append(value)
    names: Sequence[str] = parts.get("commonName", ())
    if len(names) != 1 or not names[0]:
        return None
    groups = (*parts.get("organizationName", ()), AUTHENTICATED)
    return User(username=names[0], groups=groups)
