"""Who may see which devices' values: the name in the client certificate, asked of the cluster's own RBAC."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from corekit.errors import KubeApiError

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class ReviewApi(Protocol):
    """The one request that is made."""

    async def post(self, path: str, body: bytes) -> bytes:
        """Create an object. Raises: KubeApiError."""


class Caller(NamedTuple):
    """A user of the cluster, as client certificates name one: CN and every O."""

    name: str
    groups: tuple[str, ...]


class _Verdict(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict = msgspec.field(default_factory=_Verdict)


_decoder = msgspec.json.Decoder(_Review)


def caller_of(auth_context: Any) -> Caller | None:
    """Return who a gRPC call comes from; None if its certificate names nobody."""
    found = auth_context.get("x509_pem_cert", [])
    if len(found) != 1:
        return None
    try:
        subject = x509.load_pem_x509_certificate(found[0]).subject
    except ValueError:
        return None
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not names[0]:
        return None
    groups = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return Caller(names[0], (*groups, "system:authenticated"))


class Gate:
    """Asks the API server; no answer means no."""

    def __init__(self, api: ReviewApi) -> None:
        self._api = api

    async def allows(self, caller: Caller, verb: str, namespace: str, name: str) -> bool:
        """Tell whether `caller` may get or watch a Device; an empty name: all of the namespace; both: all."""
        named = {"namespace": namespace, "name": name}
        devices = {"group": "devices.kubeedge.io", "resource": "devices"}
        return await self._ask(caller, {**devices, "verb": verb, **named})

    async def allows_messages(self, caller: Caller, node: str) -> bool:
        """Tell whether `caller` may watch the messages of a node; an empty name: of all nodes."""
        messages = {"group": "", "resource": "nodes", "subresource": "messages"}
        return await self._ask(caller, {**messages, "verb": "watch", "name": node})

    async def _ask(self, caller: Caller, attributes: dict[str, str]) -> bool:
        spec = {"user": caller.name, "groups": caller.groups, "resourceAttributes": attributes}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        try:
            answer = await self._api.post(REVIEWS, msgspec.json.encode(review))
            return _decoder.decode(answer).status.allowed
        except (KubeApiError, msgspec.DecodeError):
            return False
