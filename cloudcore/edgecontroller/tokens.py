"""Service account tokens of pods, asked for by their nodes and issued with the node's own rights."""

from __future__ import annotations

import logging

import msgspec

from cloudcore.edgecontroller.reports import NodeApi, encode
from cloudcore.kube.resources import SERVICE_ACCOUNTS
from corekit.errors import KubeApiError
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

KIND = "TokenRequest"
_GROUP = "authentication.k8s.io/v1"


class _Pod(msgspec.Struct):
    name: str
    uid: str


class _Question(msgspec.Struct, rename="camel"):
    """What a node may choose; a token is bound to a pod, always."""

    namespace: str
    service_account: str
    pod: _Pod
    audiences: list[str] = []
    expiration_seconds: int = 3600


class _Status(msgspec.Struct, rename="camel"):
    token: str
    expiration_timestamp: str


class _TokenRequest(msgspec.Struct):
    status: _Status


_questions = msgspec.json.Decoder(_Question)
_answers = msgspec.json.Decoder(_TokenRequest)


class TokenRequests:
    """Answers the question TokenRequest (docs/protocol.md, section 10).

    The cluster's Node authorizer and NodeRestriction decide: a node gets tokens of its own pods' accounts only.
    """

    def __init__(self, api: NodeApi) -> None:
        self._api = api

    async def answer(self, node: str, body: bytes) -> tuple[int, bytes]:
        """Return a token with its end, or what the API server says against it."""
        try:
            asked = _questions.decode(body)
            key = ObjectKey(SERVICE_ACCOUNTS.kind, asked.namespace, asked.service_account)
            path = SERVICE_ACCOUNTS.path(key, "token")
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            return 400, f"not a TokenRequest: {exc}".encode()
        try:
            raw = await self._api.post(node, path, encode(_request(asked)))
            return 200, encode(_answers.decode(raw).status)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            return 502, f"the API server's answer is no TokenRequest: {exc}".encode()
        except KubeApiError as exc:
            logger.info("no token of %s: %s", key, exc, extra={"node": node})
            return exc.status or 503, str(exc).encode()


def _request(asked: _Question) -> dict[str, object]:
    bound = {"kind": "Pod", "apiVersion": "v1", "name": asked.pod.name, "uid": asked.pod.uid}
    spec: dict[str, object] = {
        "audiences": asked.audiences,
        "expirationSeconds": asked.expiration_seconds,
        "boundObjectRef": bound,
    }
    return {"apiVersion": _GROUP, "kind": "TokenRequest", "spec": spec}
