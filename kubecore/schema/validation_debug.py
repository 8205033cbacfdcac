"""Ephemeral containers: what `kubectl debug` may add to a running pod, with the API server's words."""

from __future__ import annotations

from typing import Any

from kubecore.values.invalid import Cause, duplicate, forbidden, not_found

Object = dict[str, Any]
_FIELD = "spec.ephemeralContainers"
_FORBIDDEN = (
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
)
_MIRROR = "kubernetes.io/config.mirror"


def check_ephemeral_update(pod: Object, old: Object) -> list[Cause]:
    """Return what is wrong with a pod of which only the ephemeral containers were written."""
    added = pod["spec"].get("ephemeralContainers") or []
    present = old["spec"].get("ephemeralContainers") or []
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods do not support ephemeral containers")]
    by_name = {c["name"]: (i, c) for i, c in enumerate(added)}
    causes: list[Cause] = []
    for container in present:
        name = container["name"]
        if name not in by_name:
            rule = f'existing ephemeral containers "{name}" may not be removed'
            causes.append(forbidden(_FIELD, rule))
        elif by_name[name][1] != container:
            rule = f'existing ephemeral containers "{name}" may not be changed'
            causes.append(forbidden(f"{_FIELD}[{by_name[name][0]}]", rule))
    return causes + _check_added(pod["spec"], added)


def _check_added(spec: Object, added: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    targets = {c["name"] for c in spec["containers"]}
    taken = targets | {c["name"] for c in spec.get("initContainers") or ()}
    for index, container in enumerate(added):
        where = f"{_FIELD}[{index}]"
        if container["name"] in taken:
            causes.append(duplicate(f"{where}.name", container["name"]))
        taken.add(container["name"])
        target = container.get("targetContainerName")
        if target and target not in targets:
            causes.append(not_found(f"{where}.targetContainerName", target))
        causes += [
            forbidden(f"{where}.{key}", "cannot be set for an Ephemeral Container")
            for key in _FORBIDDEN
            if container.get(key)
        ]
        if any((container.get("resources") or {}).values()):
            rule = "cannot be set for an Ephemeral Container"
            causes.append(forbidden(f"{where}.resources", rule))
        causes += [
            forbidden(
                f"{where}.volumeMounts[{i}].subPath", "cannot be set for an Ephemeral Container"
            )
            for i, mount in enumerate(container.get("volumeMounts") or ())
            if mount.get("subPath") or mount.get("subPathExpr")
        ]
    return causes
