"""Questions about users: who a token is, who I am, what somebody may do. Answers only; nothing is stored."""

from __future__ import annotations

import logging
from typing import Any

from kubecore.access.accounts import Accounts
from kubecore.access.authn import User
from kubecore.access.authz import Authorizer
from kubecore.access.errors import TokenError
from kubecore.access.target import Target
from kubecore.errors import bad_request, unknown_path

logger = logging.getLogger(__name__)
Object = dict[str, Any]
GROUPS = ("authentication.k8s.io", "authorization.k8s.io")


class Reviews:
    """Serves what is posted to authentication.k8s.io/v1 and authorization.k8s.io/v1."""

    def __init__(self, authorizer: Authorizer, accounts: Accounts) -> None:
        self._authorizer, self._accounts = authorizer, accounts

    def answer(self, user: User, target: Target, body: Any) -> Object:
        """Return `body` with its status. Raises:  ApiStatusError 400: malformed; 404: another kind."""
        serve = {
            "selfsubjectaccessreviews": self._own_access,
            "subjectaccessreviews": self._access,
            "localsubjectaccessreviews": self._local_access,
            "selfsubjectrulesreviews": self._rules,
            "tokenreviews": self._token,
            "selfsubjectreviews": self._self,
        }.get(target.plural)
        if serve is None or target.version != "v1" or target.name:
            raise unknown_path()
        if body is not None and not isinstance(body, dict):
            raise bad_request("the body is not a JSON object")
        body = body or {}
        spec = body.get("spec")
        if not isinstance(spec, dict):
            if target.plural != "selfsubjectreviews":
                raise bad_request("the body is no review: spec is missing")
            spec = {}
        return {**body, "status": serve(user, target, spec)}

    def _own_access(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        return {"allowed": self._authorizer.allows(user, asked(spec))}

    def _access(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        return {"allowed": self._authorizer.allows(_subject(spec), asked(spec))}

    def _local_access(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        wanted = asked(spec)
        if not wanted.plural or wanted.namespace != target.namespace:
            raise bad_request("spec.resourceAttributes.namespace must match metadata.namespace")
        return {"allowed": self._authorizer.allows(_subject(spec), wanted)}

    def _rules(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        namespace = spec.get("namespace")
        if not isinstance(namespace, str) or not namespace:
            raise bad_request("no namespace on request")
        return self._authorizer.rules(user, namespace)

    def _self(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        return {"userInfo": user_info(user)}

    def _token(self, user: User, target: Target, spec: Object) -> Object:  # noqa: ARG002
        token, audiences = spec.get("token"), spec.get("audiences") or []
        if not isinstance(token, str) or not token:
            raise bad_request("spec.token is missing")
        if not isinstance(audiences, list):
            raise bad_request("spec.audiences is not a list")
        try:
            holder, meant = self._accounts.user(token, [str(a) for a in audiences])
        except TokenError as exc:
            return {"user": {}, "error": f"invalid bearer token: {exc}"}
        return {"authenticated": True, "user": user_info(holder), "audiences": meant}


def user_info(user: User) -> Object:
    """Return `user` as Kubernetes writes one."""
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    return info


def _subject(spec: Object) -> User:
    groups = spec.get("groups") or []
    if not isinstance(groups, list):
        raise bad_request("spec.groups is not a list")
    name = str(spec.get("user") or "")
    if not name and not groups:
        raise bad_request("at least one of spec.user or spec.groups must be specified")
    return User(name, tuple(map(str, groups)))


def asked(spec: Object) -> Target:
    """Return what an access review asks about. Raises:  ApiStatusError 400."""
    plain = spec.get("nonResourceAttributes")
    if isinstance(plain, dict):
        return Target(str(plain.get("verb", "")), str(plain.get("path", "")))
    wanted = spec.get("resourceAttributes")
    if not isinstance(wanted, dict):
        raise bad_request("spec names neither resourceAttributes nor nonResourceAttributes")
    keys = ("verb", "group", "version", "resource", "namespace", "name", "subresource")
    verb, *rest = (str(wanted.get(key) or "") for key in keys)
    return Target(verb, "", *rest)
