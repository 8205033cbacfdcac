"""Which fields of a Pod this node does not serve: none of them may be ignored silently; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from edgecore.edged.spec.podspec import Part, PodSpec

# Fields that mean nothing on a node: they were the API server's, the scheduler's or a controller's.
_ELSEWHERE = frozenset(
    [
        "affinity",
        "nodeSelector",
        "tolerations",
        "topologySpreadConstraints",
        "schedulerName",
        "schedulingGates",
        "priority",
        "priorityClassName",
        "preemptionPolicy",
        "serviceAccount",
        "automountServiceAccountToken",
        "os",
        "overhead",
        "enableServiceLinks",
        "resizePolicy",
        "stdinOnce",
    ]
)
# Values that ask for nothing.
_NOTHING: tuple[object, ...] = (False, "", 0, [], {}, "None", "Default")


def unserved_fields(tree: dict[str, Any]) -> list[str]:
    """Return the paths of the fields that are set and will not be honoured, volumes aside.

    Shapes:  tree: the document that `decode_pod` returned.
    """
    spec = tree.get("spec", {})
    found = {p for p in _walk(spec, PodSpec, "spec") if not p.startswith("spec.volumes")}
    shared = spec.get("securityContext", {})
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        security = {**shared, **container.get("securityContext", {})}
        # The user an image names is not known here, so only a number in the spec can be judged.
        if security.get("runAsNonRoot") and "runAsUser" not in security:
            found.add("spec.containers.securityContext.runAsNonRoot")
    if spec.get("hostUsers") is False:  # here it is the false that asks for something
        found.add("spec.hostUsers")
    for volume in spec.get("volumes", ()):
        empty_dir = volume.get("emptyDir", {})
        if "sizeLimit" in empty_dir and empty_dir.get("medium") != "Memory":
            found.add("spec.volumes.emptyDir.sizeLimit")
    return sorted(found)


def _walk(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Yield the paths of the members of `value` that `shape` has no field for."""
    shape = _struct_in(shape)
    if isinstance(value, list) and shape is not None:
        for item in value:
            yield from _walk(item, shape, path)
    elif isinstance(value, dict) and shape is not None:
        fields = {f.encode_name: f.type for f in msgspec.structs.fields(shape)}
        for name, member in value.items():
            if name in fields:
                yield from _walk(member, fields[name], f"{path}.{name}")
            elif name not in _ELSEWHERE and member not in _NOTHING:
                yield f"{path}.{name}"


def _struct_in(shape: Any) -> Any:
    """Return the struct within `tuple[Struct, ...]`, `Struct | None` or `Annotated[...]`; None if there is none."""
    if isinstance(shape, type) and issubclass(shape, Part):
        return shape
    for part in get_args(shape):
        if (found := _struct_in(part)) is not None:
            return found
    return None
