"""Turn a request body into a stored object: decode, prune, default, validate."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from kubecore.kinds.resource import Resource
from kubecore.schema.decoding import DecodeError, decode
from kubecore.schema.defaults import apply_builtin_defaults
from kubecore.schema.structural import apply_defaults, prune, validate
from kubecore.schema.validation import check_builtin, check_new, check_update
from kubecore.values.invalid import Cause, InvalidObjectError, StrictDecodingError
from kubecore.values.names import check_metadata

FieldValidation = Literal["Strict", "Warn", "Ignore"]
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

__all__ = ["Cause", "CheckedObject", "InvalidObjectError", "StrictDecodingError", "check"]


@dataclass
class CheckedObject:
    """An object ready to be stored, and what its sender should be warned of."""

    obj: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def check(
    resource: Resource,
    obj: dict[str, Any],
    *,
    field_validation: FieldValidation = "Strict",
    old: dict[str, Any] | None = None,
    subresource: str = "",
) -> CheckedObject:
    """Return `obj` pruned and defaulted; `obj` itself stays as it is. `old` is what it replaces.

    Shapes:  subresource: which part of `old` was written.

    Raises:  StrictDecodingError: a wrong type, or (Strict) an unknown field.
             InvalidObjectError: a rule of the kind is broken; every broken one is a cause.
    """
    taken = _claim_kind(resource, obj)
    causes: list[Cause] = []
    if resource.schema is not None:
        taken, unknown = _take_custom(resource, taken, causes)
    else:
        taken, unknown = _take_builtin(resource, taken, causes)
    if unknown and field_validation == "Strict":
        raise _undecodable(resource, "strict decoding error: " + ", ".join(_unknown(unknown)))
    metadata = taken.get("metadata", {})
    causes += check_metadata(resource.plural, metadata, namespaced=resource.namespaced)
    if resource.schema is None:
        causes += check_builtin(resource, taken)
    if old is None:
        causes += check_new(resource, taken)
    else:
        causes += check_update(resource, taken, old, subresource)
    if causes:
        raise InvalidObjectError(resource.group_kind, metadata.get("name", ""), _distinct(causes))
    return CheckedObject(taken, _unknown(unknown) if field_validation == "Warn" else [])


def _claim_kind(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of `obj` with apiVersion and kind; the body may leave them out, not contradict them."""
    if not isinstance(obj, dict):
        raise _undecodable(resource, "the body is not a JSON object")
    for key, expected in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if obj.get(key) not in (None, "", expected):
            raise _undecodable(
                resource,
                f"the {key} in the data ({obj[key]}) does not match the expected {key} ({expected})",
            )
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind}


def _take_builtin(
    resource: Resource, obj: dict[str, Any], causes: list[Cause]
) -> tuple[dict[str, Any], list[str]]:
    try:
        decoded = decode(resource.definition, resource.kind, obj)
    except DecodeError as exc:
        raise _undecodable(resource, str(exc)) from exc
    # Decoding builds new containers but shares free-form parts; defaults must not write into the sender's.
    causes += decoded.missing
    taken = copy.deepcopy(decoded.obj)
    apply_builtin_defaults(resource, taken)
    return taken, decoded.unknown


def _take_custom(
    resource: Resource, obj: dict[str, Any], causes: list[Cause]
) -> tuple[dict[str, Any], list[str]]:
    taken = copy.deepcopy(obj)
    schema = resource.schema or {}
    try:
        meta = decode(_OBJECT_META, resource.kind, taken.get("metadata") or {})
    except DecodeError as exc:
        raise _undecodable(resource, f"metadata: {exc}") from exc
    taken["metadata"] = meta.obj
    unknown = [f"metadata.{path}" for path in meta.unknown]
    unknown += prune(schema, taken, root=True)
    apply_defaults(schema, taken)
    causes += validate(schema, taken)
    return taken, unknown


def _undecodable(resource: Resource, problem: str) -> StrictDecodingError:
    return StrictDecodingError(resource.version, resource.kind, problem)


def _unknown(paths: list[str]) -> list[str]:
    return [f'unknown field "{path}"' for path in sorted(paths)]


def _distinct(causes: list[Cause]) -> list[Cause]:
    return list(dict.fromkeys(causes))
