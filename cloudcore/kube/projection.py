"""From an object as the API server has it to the body an edge node holds, without decoding what is kept.

Equal objects must give equal bytes, whether they came from a list, a watch or a get, or nodes are sent
what they have. A list leaves `kind` and `apiVersion` out of its items, so both are always written, first.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloudcore.kube.decoding import decode
from cloudcore.kube.resources import KubeObject, Resource
from synccore.index import record_version

# What changes without changing what a node must do; with these kept, every status write would go back down.
_DROPPED_METADATA = ("managedFields", "resourceVersion", "selfLink")

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """What nodes hold of one object; one copy serves every node."""

    uid: str
    version: int
    body: bytes


def project_body(resource: Resource, raw: bytes) -> bytes:
    """Return `raw` without status and the metadata that does not matter to a node, key order kept.

    Raises:  msgspec.DecodeError: not a JSON object with an object `metadata`.
    """
    fields = decode(_decoder, raw)
    metadata = decode(_decoder, fields.get("metadata", b"{}"))
    for name in _DROPPED_METADATA:
        metadata.pop(name, None)
    for name in ("status", "apiVersion", "kind"):
        fields.pop(name, None)
    fields["metadata"] = msgspec.Raw(_encode(metadata))
    head: dict[str, object] = {"apiVersion": resource.api_version, "kind": resource.kind}
    return _encode(head | fields)


def project(resource: Resource, obj: KubeObject) -> Record:
    """Return the record of `obj`. Raises: msgspec.DecodeError, as `project_body`."""
    body = project_body(resource, obj.body)
    return Record(obj.uid, record_version(obj.uid, body), body)
