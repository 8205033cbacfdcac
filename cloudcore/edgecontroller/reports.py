"""What the writers of reports share: acting as a node, decoding what it sent, and refusing it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from cloudcore.kube.client import MERGE_PATCH, KubeClient
from corekit.errors import EdgeError

T = TypeVar("T")

# First element of a list in a strategic merge patch: take this list as it is instead of merging it.
REPLACE = {"$patch": "replace"}

# What a condition says beside its status. Conditions are merged by type, field by field: what one no longer says would
# stay, and a Ready of "True" go on to give the reason of an earlier "False".
SAID_WITH_A_STATUS = ("reason", "message")

encode = msgspec.json.Encoder().encode
_conditions_decoder = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def whole_conditions(reported: msgspec.Raw) -> list[dict[str, object]]:
    """Return conditions for a strategic merge patch that leaves nothing of their earlier states.

    Raises:  RefusedError: they are no list of objects.
    """
    nothing: dict[str, object] = dict.fromkeys(SAID_WITH_A_STATUS)
    return [nothing | condition for condition in decode(_conditions_decoder, bytes(reported))]


class RefusedError(EdgeError):
    """A report that its node may not make, or that does not decode; it will never be written."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return `body` decoded. Raises: RefusedError: naming the field."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise RefusedError(f"its body does not decode: {exc}") from exc


class NodeApi:
    """The API as nodes may use it: every call is made with a node's rights, not cloudcore's."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def get(self, node: str, path: str) -> bytes:
        """Read."""
        return await self._client.get(path, impersonate_node=node)

    async def post(self, node: str, path: str, body: bytes) -> bytes:
        """Create; return the answer."""
        return await self._client.post(path, body, impersonate_node=node)

    async def patch(
        self, node: str, path: str, body: bytes, content_type: str = MERGE_PATCH
    ) -> bytes:
        """Patch; return the answer."""
        return await self._client.patch(
            path, body, content_type=content_type, impersonate_node=node
        )

    async def delete(self, node: str, path: str, body: bytes) -> None:
        """Delete, with a DeleteOptions."""
        await self._client.delete(path, body=body, impersonate_node=node)
