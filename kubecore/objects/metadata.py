"""The part of `metadata` that belongs to the server: names, uids, times, generations."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

from corekit.timestamps import rfc3339
from kubecore.errors import bad_request, conflict, modified
from kubecore.kinds.resource import Resource
from kubecore.values.invalid import Cause, InvalidObjectError

Object = dict[str, Any]

# No vowels and no look-alikes, as Kubernetes: a generated name spells nothing.
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# 63 less the five random characters.
_MAX_GENERATED_PREFIX = 58
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)
# Who wrote which field is not tracked yet; keeping what a client claims about it would be a lie.
_DROPPED = ("managedFields", "selfLink")


def metadata_of(obj: Any) -> dict[str, Any]:
    """Return a body's metadata; {} if it has none.

    Raises:  ApiStatusError 400: the body or its metadata is not an object.
    """
    if not isinstance(obj, dict):
        raise bad_request("the body is not a JSON object")
    metadata = obj.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata is not a JSON object")
    return metadata


def stamp_new(resource: Resource, namespace: str, obj: Object) -> Object:
    """Return `obj` as a new object in `namespace`, with everything that the server decides."""
    metadata = dict(metadata_of(obj))
    _check_namespace(resource, namespace, metadata)
    if metadata.pop("resourceVersion", None):
        raise bad_request("resourceVersion should not be set on objects to be created")
    prefix = metadata.get("generateName")
    if not metadata.get("name") and isinstance(prefix, str) and prefix:
        suffix = "".join(random.choices(_NAME_ALPHABET, k=5))
        metadata["name"] = prefix[:_MAX_GENERATED_PREFIX] + suffix
    for key in (*_SERVER_OWNED, *_DROPPED):
        metadata.pop(key, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = rfc3339(time.time())
    if resource.custom or "spec" in obj:
        metadata["generation"] = 1
    return {**obj, "metadata": metadata}


def check_target(
    resource: Resource, namespace: str, name: str, obj: Object, current: Object
) -> None:
    """Refuse a body that is about another object, or about an older state of this one."""
    metadata = metadata_of(obj)
    _check_namespace(resource, namespace, dict(metadata))
    if metadata.get("name", name) != name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )
    stored = current["metadata"]
    require_same(resource, current, uid=metadata.get("uid"), resource_version="")
    version = metadata.get("resourceVersion")
    if version and version != stored["resourceVersion"]:
        raise modified(resource, name)


def require_same(
    resource: Resource, current: Object, *, uid: str | None, resource_version: str | None
) -> None:
    """Refuse a write whose preconditions `current` does not meet."""
    stored = current["metadata"]
    for label, wanted, found in (
        ("UID", uid, stored.get("uid", "")),
        ("ResourceVersion", resource_version, stored["resourceVersion"]),
    ):
        if wanted and wanted != found:
            problem = f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {found}"
            raise conflict(resource, stored["name"], problem)


def carry_over(resource: Resource, obj: Object, current: Object) -> dict[str, Any]:
    """Return the metadata of an update: the client's, with what the server owns as it was."""
    stored = current["metadata"]
    metadata = {k: v for k, v in metadata_of(obj).items() if k not in _SERVER_OWNED + _DROPPED}
    metadata["name"] = stored["name"]
    if resource.namespaced:
        metadata["namespace"] = stored["namespace"]
    kept = (*_SERVER_OWNED, "resourceVersion", "generateName")
    metadata.update({key: stored[key] for key in kept if key in stored})
    if "deletionTimestamp" in stored:
        _refuse_new_finalizers(resource, metadata, stored)
    return metadata


def spec_changed(resource: Resource, obj: Object, current: Object) -> bool:
    """Tell whether an update changes what `generation` counts."""
    ignored = {"metadata", "status"} if resource.has_status else {"metadata"}
    return {k: v for k, v in obj.items() if k not in ignored} != {
        k: v for k, v in current.items() if k not in ignored
    }


def _check_namespace(resource: Resource, namespace: str, metadata: dict[str, Any]) -> None:
    if not resource.namespaced:
        return
    if metadata.setdefault("namespace", namespace) in ("", None):
        metadata["namespace"] = namespace
    if metadata["namespace"] != namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _refuse_new_finalizers(
    resource: Resource, metadata: dict[str, Any], stored: dict[str, Any]
) -> None:
    wanted = metadata.get("finalizers")
    known = stored.get("finalizers") or []
    new = [f for f in wanted if f not in known] if isinstance(wanted, list) else []
    if new:
        problem = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new "
            f"finalizers {new}"
        )
        cause = Cause("metadata.finalizers", "FieldValueForbidden", problem)
        raise InvalidObjectError(resource.group_kind, stored["name"], [cause])
