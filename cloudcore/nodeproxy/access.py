"""Who asks, and whether they may: delegated to the cluster, as kubelet does it. There is no off switch.

Source: kubelet's webhook authentication (TokenReview) and authorization (SubjectAccessReview on nodes/*).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from corekit.errors import EdgeError, KubeApiError

logger = logging.getLogger(__name__)

V = TypeVar("V")

# How long an answer of the cluster holds: a right that was taken away ends within two minutes, and one that was just
# given works within ten seconds.
ALLOWED_TTL_S = 120.0
DENIED_TTL_S = 10.0
# Callers and what they ask for are few; beyond it the oldest answer is asked for again.
MAX_ENTRIES = 4096
# Service account tokens are 1 KiB.
MAX_TOKEN_BYTES = 16 << 10

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class UnauthenticatedError(EdgeError):
    """Nobody that the cluster knows."""


class DeniedError(EdgeError):
    """The cluster says no."""


class ReviewError(EdgeError):
    """The cluster could not be asked."""


class Api(Protocol):
    """The part of KubeClient that is used."""

    async def post(self, path: str, body: bytes) -> bytes:
        """Create. Raises: KubeApiError."""


class User(msgspec.Struct, frozen=True):
    """Somebody, as the cluster names them."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Question:
    """One access to one node; `subresource` is kubelet's word for the part of its API."""

    node: str
    verb: str
    subresource: str


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: User = msgspec.field(default_factory=User)
    error: str = ""


class _TokenReview(msgspec.Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _AccessStatus(msgspec.Struct):
    allowed: bool = False
    denied: bool = False
    reason: str = ""


class _AccessReview(msgspec.Struct):
    status: _AccessStatus = msgspec.field(default_factory=_AccessStatus)


class _Cache(Generic[V]):
    """Answers until they are too old."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Hashable, tuple[float, V]] = {}

    def get(self, key: Hashable) -> V | None:
        found = self._entries.get(key)
        if found is None or found[0] <= self._clock():
            return None
        return found[1]

    def put(self, key: Hashable, value: V, *, good: bool) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._clock() + (ALLOWED_TTL_S if good else DENIED_TTL_S), value)


class Access:
    """Authenticates by client certificate or bearer token, then asks the cluster for each kind of access."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._users: _Cache[User] = _Cache(clock)
        self._answers: _Cache[bool] = _Cache(clock)

    async def user(self, certificate: Mapping[str, Any] | None, authorization: str) -> User:
        """Return who asks.

        Shapes:  certificate: as `ssl` gives it, verified already; authorization: the header, "" if none.
        Raises:  UnauthenticatedError, ReviewError.
        """
        if certificate and (named := _subject(certificate)) is not None:
            return named
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_BYTES:
            raise UnauthenticatedError("neither a client certificate nor a bearer token")
        key = hashlib.sha256(token.encode()).digest()
        known = self._users.get(key)
        if known is None:
            known = await self._review(token)
            self._users.put(key, known, good=bool(known.username))
        if not known.username:
            raise UnauthenticatedError("the cluster does not know this token")
        return known

    async def check(self, user: User, question: Question) -> None:
        """Return if `user` may. Raises: DeniedError, ReviewError."""
        key = (user.username, user.uid, user.groups, _frozen(user.extra), question)
        allowed = self._answers.get(key)
        if allowed is None:
            allowed = await self._ask(user, question)
            self._answers.put(key, allowed, good=allowed)
        if not allowed:
            raise DeniedError(
                f"Forbidden (user={user.username}, verb={question.verb}, resource=nodes, "
                f"subresource={question.subresource})"
            )

    async def _review(self, token: str) -> User:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await self._post(TOKEN_REVIEWS, body, _TokenReview)).status
        return status.user if status.authenticated and not status.error else User()

    async def _ask(self, user: User, question: Question) -> bool:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": {
                "verb": question.verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": question.subresource,
                "name": question.node,
            },
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        status = (await self._post(ACCESS_REVIEWS, body, _AccessReview)).status
        return status.allowed and not status.denied

    async def _post(self, path: str, body: dict[str, Any], shape: type[V]) -> V:
        try:
            answer = await self._api.post(path, msgspec.json.encode(body))
            return msgspec.json.decode(answer, type=shape)
        except (KubeApiError, msgspec.DecodeError) as exc:
            logger.warning("nodeproxy: %s: %s", path.rpartition("/")[2], exc)
            raise ReviewError("the cluster cannot be asked who may do this") from exc


def _subject(certificate: Mapping[str, Any]) -> User | None:
    parts: dict[str, list[str]] = {}
    for part in certificate.get("subject", ()):
        for name, value in part:
            parts.setdefault(name, []).append(value)
    names: Sequence[str] = parts.get("commonName", ())
    if len(names) != 1 or not names[0]:
        return None
    groups = (*parts.get("organizationName", ()), "system:authenticated")
    return User(username=names[0], groups=groups)


def _frozen(extra: Mapping[str, Sequence[str]]) -> Hashable:
    return tuple(sorted((name, tuple(values)) for name, values in extra.items()))
