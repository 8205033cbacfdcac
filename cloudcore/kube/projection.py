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


class _Gate(msgspec.Struct, rename="camel"):
    condition_type: str


class _GatedSpec(msgspec.Struct, rename="camel"):
    readiness_gates: list[_Gate] | None = None


class _GateCondition(msgspec.Struct):
    type: str
    status: str = ""


class _GateStatus(msgspec.Struct):
    conditions: list[_GateCondition] | None = None


_specs = msgspec.json.Decoder(_GatedSpec)
_statuses = msgspec.json.Decoder(_GateStatus)
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Record(NamedTuple):
    """What nodes hold of one object; one copy serves every node."""

    uid: str
    version: int
    body: bytes


def project_body(resource: Resource, raw: bytes) -> bytes:
    """Return `raw` without status and the metadata that does not matter to a node, key order kept.

    Of a pod with readiness gates the gates' own conditions stay: others set them, and its node must know them.
    Raises:  msgspec.DecodeError: not a JSON object with an object `metadata`.
    """
    fields = decode(_decoder, raw)
    metadata = decode(_decoder, fields.get("metadata", b"{}"))
    for name in _DROPPED_METADATA:
        metadata.pop(name, None)
    gates = _gates(fields) if resource.kind == "Pod" and b'"readinessGates"' in raw else None
    for name in ("status", "apiVersion", "kind"):
        fields.pop(name, None)
    fields["metadata"] = msgspec.Raw(_encode(metadata))
    if gates is not None:
        fields["status"] = msgspec.Raw(_encode(gates))
    head: dict[str, object] = {"apiVersion": resource.api_version, "kind": resource.kind}
    return _encode(head | fields)


def _gates(fields: dict[str, msgspec.Raw]) -> _GateStatus | None:
    """Return the conditions of the pod's readiness gates that are set, by type; None if it has no gates."""
    wanted = {
        gate.condition_type
        for gate in decode(_specs, fields.get("spec", b"{}")).readiness_gates or ()
    }
    if not wanted:
        return None
    status = decode(_statuses, fields.get("status", b"{}"))
    found = [c for c in status.conditions or () if c.type in wanted]
    return _GateStatus(sorted(found, key=lambda c: c.type))


def project(resource: Resource, obj: KubeObject) -> Record:
    """Return the record of `obj`. Raises: msgspec.DecodeError, as `project_body`."""
    body = project_body(resource, obj.body)
    return Record(obj.uid, record_version(obj.uid, body), body)
