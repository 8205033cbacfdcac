"""`kubectl auth can-i`: answers whether a user may do something. Stores nothing."""

from __future__ import annotations

from typing import Any

from kubecore.access.authn import User
from kubecore.access.authz import Authorizer
from kubecore.access.target import Target
from kubecore.errors import bad_request, unknown_path

Object = dict[str, Any]


def review(authorizer: Authorizer, user: User, target: Target, body: Any) -> Object:
    """Return a SelfSubjectAccessReview (or a SubjectAccessReview of another user) with its status.

    Raises:  ApiStatusError 400: malformed; 404: another kind of review.
    """
    if (
        target.plural not in ("selfsubjectaccessreviews", "subjectaccessreviews")
        or target.version != "v1"
    ):
        raise unknown_path()
    spec = body.get("spec") if isinstance(body, dict) else None
    if not isinstance(spec, dict):
        raise bad_request("the body is no access review: spec is missing")
    if target.plural == "subjectaccessreviews":
        groups = spec.get("groups") or []
        if not isinstance(groups, list):
            raise bad_request("spec.groups is not a list")
        user = User(str(spec.get("user", "")), tuple(map(str, groups)))
    allowed = authorizer.allows(user, _asked(spec))
    return {**body, "status": {"allowed": allowed}}


def _asked(spec: Object) -> Target:
    plain = spec.get("nonResourceAttributes")
    if isinstance(plain, dict):
        return Target(str(plain.get("verb", "")), str(plain.get("path", "")))
    wanted = spec.get("resourceAttributes")
    if not isinstance(wanted, dict):
        raise bad_request("spec names neither resourceAttributes nor nonResourceAttributes")
    keys = ("verb", "group", "version", "resource", "namespace", "name", "subresource")
    verb, *rest = (str(wanted.get(key) or "") for key in keys)
    return Target(verb, "", *rest)
