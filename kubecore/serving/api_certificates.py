"""Certificate signing requests over HTTP: who asked, and who may decide or sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.access.authn import User
from kubecore.access.authz import Authorizer
from kubecore.access.reviews import user_info
from kubecore.errors import forbidden
from kubecore.kinds.resource import Resource

Object = dict[str, Any]
_WHO = ("username", "uid", "groups", "extra")


def with_requester(body: Object, user: User) -> Object:
    """Return a new request with who asks for it, whatever it says itself."""
    spec = body.get("spec")
    if not isinstance(spec, dict):
        return body  # for the schema to refuse
    kept = {key: value for key, value in spec.items() if key not in _WHO}
    return {**body, "spec": {**kept, **user_info(user)}}


def deciding_guard(
    resource: Resource, subresource: str, user: User, authorizer: Authorizer
) -> Callable[[Object | None, Object], None]:
    """Return the check of a write to a request's decision (`approval`) or certificate (`status`).

    Beside the right to the path, one to the signer is needed: whoever may issue for one may not for all.
    Source:  Kubernetes' admission plugins CertificateApproval and CertificateSigning.
    """
    verb = {"approval": "approve", "status": "sign"}[subresource]

    def guard(before: Object | None, after: Object) -> None:
        old = (before or {}).get("status") or {}
        new = after.get("status") or {}
        parts = ("certificate", "conditions")
        if verb == "sign" and all(old.get(part) == new.get(part) for part in parts):
            return
        signer = after["spec"]["signerName"]
        if not authorizer.may_sign_for(user, verb, signer):
            problem = f'user not permitted to {verb} requests with signerName "{signer}"'
            raise forbidden(resource, after["metadata"]["name"], problem)

    return guard
