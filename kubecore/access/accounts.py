"""Service account tokens: issued for an account and perhaps bound to an object, and believed while both are there."""

from __future__ import annotations

import asyncio
import functools
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from corekit.errors import SETTINGS, ConfigError
from corekit.timestamps import parse_rfc3339, rfc3339
from kubecore.access.authn import AUTHENTICATED, User
from kubecore.access.errors import TokenError
from kubecore.errors import bad_request, conflict, invalid, not_found
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource
from kubecore.settings import AccountSettings
from kubecore.storage.store import Object, Store
from kubecore.values.invalid import Cause, InvalidObjectError
from kubecore.values.invalid import invalid as wrong

if TYPE_CHECKING:
    from kubecore.access.signing import SigningKey

DEFAULT_S, MIN_S, MAX_S = 3600, 600, 1 << 32
MAX_AUDIENCES = 32
# As upstream: a pod that is being deleted keeps its token while it ends, and a minute more.
_LEEWAY_S = 60
_CLAIM = "kubernetes.io"
_BOUND = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
_KIND = "TokenRequest.authentication.k8s.io"


@dataclass(frozen=True)
class _Asked:
    """A TokenRequest's spec, checked."""

    audiences: list[str]
    seconds: int
    bound: Object | None


class Accounts:
    """Component: issue tokens and tell whose one is; the signing key is loaded, or made, at the first."""

    name = "accounts"

    def __init__(
        self,
        settings: AccountSettings,
        store: Store,
        registry: Registry,
        default_key_file: Path,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(settings.key_file) if settings.key_file else default_key_file
        self.issuer = settings.issuer
        self._store, self._registry, self._clock = store, registry, clock

    async def __aenter__(self) -> Self:
        if self._path.exists():
            try:
                self._path.read_bytes()
            except OSError as exc:
                problem = f"{self._path} cannot be read: {exc.strerror}"
                raise ConfigError(SETTINGS, "accounts.key_file", problem) from exc
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    @functools.cached_property
    def _key(self) -> SigningKey:
        from kubecore.access.signing import SigningKey  # late: see there

        return SigningKey(self._path)

    def issue(self, namespace: str, name: str, body: Any) -> Object:
        """Return the TokenRequest `body` with its token.

        Raises:  ApiStatusError 400, 404, 409, 422.
        """
        account = self._existing("serviceaccounts", namespace, name)
        asked = self._asked(body, name)
        now_s = int(self._clock())
        claims = {
            "aud": asked.audiences,
            "exp": now_s + asked.seconds,
            "iat": now_s,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "nbf": now_s,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            _CLAIM: {
                "namespace": namespace,
                "serviceaccount": _identity(account),
                **self._binding(namespace, name, asked.bound),
            },
        }
        spec = {"audiences": asked.audiences, "expirationSeconds": asked.seconds}
        if asked.bound is not None:
            spec["boundObjectRef"] = asked.bound
        stamp = rfc3339(now_s)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": stamp},
            "spec": spec,
            "status": {
                "token": self._key.sign(claims),
                "expirationTimestamp": rfc3339(now_s + asked.seconds),
            },
        }

    def user(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """Return whose token it is, and for which of `audiences` (none: this server) it is meant.

        Raises:  TokenError: unknown, expired, of an account or object that is gone, or meant for others.
        """
        claims = self._key.claims(token)
        if claims.get("iss") != self.issuer:
            raise TokenError("it has another issuer")
        now_s = self._clock()
        expires_s, from_s = claims.get("exp"), claims.get("nbf")
        if not isinstance(expires_s, int) or not isinstance(from_s, int):
            raise TokenError("it says not how long it holds")
        if not from_s - _LEEWAY_S <= now_s < expires_s:
            raise TokenError("it has expired")
        meant = [a for a in audiences or (self.issuer,) if a in (claims.get("aud") or ())]
        if not meant:
            raise TokenError("it is meant for others")
        return self._holder(claims), meant

    def discovery(self) -> Object:
        """Return `/.well-known/openid-configuration`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def jwks(self) -> Object:
        """Return `/openid/v1/jwks`."""
        return self._key.jwks()

    def _asked(self, body: Any, name: str) -> _Asked:
        spec = body.get("spec") if isinstance(body, dict) else None
        if not isinstance(spec, dict):
            raise bad_request("the body is no TokenRequest: spec is missing")
        audiences = spec.get("audiences") or [self.issuer]
        if not isinstance(audiences, list) or not all(isinstance(a, str) for a in audiences):
            raise bad_request("spec.audiences is not a list of strings")
        seconds = spec.get("expirationSeconds")
        seconds = DEFAULT_S if seconds is None else seconds
        bound = spec.get("boundObjectRef")
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise bad_request("spec.expirationSeconds is not a whole number")
        if bound is not None and not isinstance(bound, dict):
            raise bad_request("spec.boundObjectRef is not a JSON object")
        causes: list[Cause] = []
        if seconds < MIN_S:
            rule = "may not specify a duration less than 10 minutes"
            causes.append(wrong("spec.expirationSeconds", seconds, rule))
        if seconds > MAX_S:
            rule = "may not specify a duration larger than 2^32 seconds"
            causes.append(wrong("spec.expirationSeconds", seconds, rule))
        if len(audiences) > MAX_AUDIENCES:
            rule = f"may not have more than {MAX_AUDIENCES} audiences"
            causes.append(wrong("spec.audiences", len(audiences), rule))
        if causes:
            raise invalid(
                self._resource("serviceaccounts"), InvalidObjectError(_KIND, name, causes)
            )
        return _Asked(audiences, seconds, bound)

    def _binding(self, namespace: str, account: str, bound: Object | None) -> Object:
        """Return the claims that name the object a token is bound to."""
        if bound is None:
            return {}
        kind, name = str(bound.get("kind", "")), str(bound.get("name", ""))
        if bound.get("apiVersion", "v1") != "v1" or kind not in _BOUND:
            raise bad_request(f"cannot bind token for serviceaccount to object of kind {kind[:80]}")
        plural = _BOUND[kind]
        obj = self._existing(plural, "" if kind == "Node" else namespace, name)
        uid = bound.get("uid")
        if uid and uid != obj["metadata"]["uid"]:
            problem = (
                f"the UID in the bound object reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise conflict(self._resource(plural), name, problem)
        claims: Object = {kind.lower(): _identity(obj)}
        if kind == "Pod":
            if obj["spec"].get("serviceAccountName") != account:
                problem = f'cannot bind token for serviceaccount "{account}" to pod running with '
                raise bad_request(problem + "different serviceaccount name.")
            node = self._store.latest("nodes", "", obj["spec"].get("nodeName") or "")
            if node is not None:
                claims["node"] = _identity(node.parse())
        return claims

    def _holder(self, claims: Object) -> User:
        """Return the account of a token, once it and what the token is bound to are found unchanged."""
        private = claims.get(_CLAIM)
        private = private if isinstance(private, dict) else {}
        namespace = str(private.get("namespace", ""))
        account = self._unchanged("serviceaccounts", namespace, private.get("serviceaccount"))
        name = account["metadata"]["name"]
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
        for kind, plural in (("pod", "pods"), ("secret", "secrets")):
            if kind in private:
                self._unchanged(plural, namespace, private[kind])
        if "node" in private and "pod" not in private:
            self._unchanged("nodes", "", private["node"])
        for kind in ("pod", "node"):
            for part in ("name", "uid"):
                value = (private.get(kind) or {}).get(part)
                if value:
                    extra[f"authentication.kubernetes.io/{kind}-{part}"] = [str(value)]
        groups = account_groups(namespace)
        full = f"system:serviceaccount:{namespace}:{name}"
        return User(full, (*groups, AUTHENTICATED), account["metadata"]["uid"], extra)

    def _unchanged(self, plural: str, namespace: str, identity: Any) -> Object:
        identity = identity if isinstance(identity, dict) else {}
        entry = self._store.latest(plural, namespace, str(identity.get("name", "")))
        obj = entry.parse() if entry else None
        if obj is None or obj["metadata"]["uid"] != identity.get("uid"):
            raise TokenError(f"what it belongs to is gone ({plural})")
        ends = obj["metadata"].get("deletionTimestamp")
        if ends and parse_rfc3339(ends) + _LEEWAY_S < self._clock():
            raise TokenError(f"what it belongs to is being deleted ({plural})")
        return obj

    def _existing(self, plural: str, namespace: str, name: str) -> Object:
        entry = self._store.latest(plural, namespace, name)
        if entry is None:
            raise not_found(self._resource(plural), name)
        return entry.parse()

    def _resource(self, plural: str) -> Resource:
        resource = self._registry.find("", "v1", plural)
        assert resource is not None
        return resource


def account_groups(namespace: str) -> tuple[str, str]:
    """Return the groups that every account of `namespace` is in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")


def _identity(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
