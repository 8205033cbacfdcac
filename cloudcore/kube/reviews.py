"""Who somebody is and what they may do, asked of the cluster and remembered for a while; no answer means no.

Source: kubelet's webhook authentication (TokenReview) and authorization (SubjectAccessReview).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
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
# In the groups of everybody whom the cluster knows.
AUTHENTICATED = "system:authenticated"


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

    def __init__(self, clock: Callable[[], float], allowed_ttl_s: float) -> None:
        self._clock, self._allowed_ttl_s = clock, allowed_ttl_s
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
        ttl_s = self._allowed_ttl_s if good else DENIED_TTL_S
        self._entries[key] = (self._clock() + ttl_s, value)


class Reviews:
    """Asks the cluster. Shapes: who: the part that asks, for its log lines."""

    def __init__(
        self,
        api: Api,
        who: str,
        clock: Callable[[], float] = time.monotonic,
        allowed_ttl_s: float = ALLOWED_TTL_S,
    ) -> None:
        self._api, self._who = api, who
        self._users: _Cache[User] = _Cache(clock, allowed_ttl_s)
        self._answers: _Cache[bool] = _Cache(clock, allowed_ttl_s)

    async def holder(self, authorization: str) -> User:
        """Return who holds a token. Shapes: authorization: the header, "" if none.

        Raises:  UnauthenticatedError, ReviewError.
        """
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

    async def allows(self, user: User, attributes: Mapping[str, str]) -> bool:
        """Tell whether `user` may. Shapes: attributes: resourceAttributes of the review. Raises: ReviewError."""
        asked = tuple(sorted(attributes.items()))
        key = (user.username, user.uid, user.groups, _frozen(user.extra), asked)
        allowed = self._answers.get(key)
        if allowed is None:
            allowed = await self._ask(user, attributes)
            self._answers.put(key, allowed, good=allowed)
        return allowed

    async def _review(self, token: str) -> User:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        status = (await self._post(TOKEN_REVIEWS, body, _TokenReview)).status
        return status.user if status.authenticated and not status.error else User()

    async def _ask(self, user: User, attributes: Mapping[str, str]) -> bool:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "resourceAttributes": attributes,
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
            logger.warning("%s: %s: %s", self._who, path.rpartition("/")[2], exc)
            raise ReviewError("the cluster cannot be asked who may do this") from exc


def _frozen(extra: Mapping[str, Sequence[str]]) -> Hashable:
    return tuple(sorted((name, tuple(values)) for name, values in extra.items()))
