"""The three patch types a client may send: JSON patch, JSON merge patch, strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from kubecore.kinds.resource import Resource
from kubecore.patching.errors import PatchError
from kubecore.patching.jsonpatch import apply_json_patch
from kubecore.patching.strategic import apply_strategic

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)

__all__ = [
    "JSON_PATCH",
    "MERGE_PATCH",
    "PATCH_TYPES",
    "STRATEGIC_PATCH",
    "PatchError",
    "apply_patch",
]


def apply_patch(
    resource: Resource, content_type: str, current: dict[str, Any], patch: Any
) -> dict[str, Any]:
    """Return `current` with `patch` applied; neither argument changes.

    Raises:  PatchError: 415 for an unknown type, 400 or 422 for a patch that cannot be applied.
    """
    if content_type not in PATCH_TYPES:
        raise unsupported_type(content_type, PATCH_TYPES)
    if content_type == STRATEGIC_PATCH and resource.schema is not None:
        raise unsupported_type(content_type, (JSON_PATCH, MERGE_PATCH))
    if content_type == JSON_PATCH:
        return _object(apply_json_patch(current, patch))
    if not isinstance(patch, dict):
        raise PatchError(400, "the patch is not a JSON object")
    if content_type == MERGE_PATCH:
        return _object(_merge(current, patch))
    return apply_strategic(resource.definition, current, patch)


def unsupported_type(content_type: str, accepted: tuple[str, ...]) -> PatchError:
    """Return the error for a patch type that is not taken here."""
    known = ", ".join(accepted)
    text = "the body of the request was in an unknown format - accepted media types include: "
    return PatchError(415, f"{text}{known} (got {content_type})")


def _merge(current: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _object(patched: Any) -> dict[str, Any]:
    if not isinstance(patched, dict):
        raise PatchError(422, "the patch leaves something that is not a JSON object")
    return copy.deepcopy(patched)
