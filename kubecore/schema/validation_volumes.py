"""Rules of PersistentVolumes, their claims and StorageClasses beyond types."""

from __future__ import annotations

from typing import Any

from kubecore.values.invalid import Cause, forbidden, invalid, not_supported, required
from kubecore.values.quantities import parse_quantity

Object = dict[str, Any]

ACCESS_MODES = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]
_RECLAIM_POLICIES = ["Delete", "Recycle", "Retain"]
# Members of a volume's spec that are no place of it.
_NOT_SOURCES = frozenset(
    {
        *("capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "volumeMode"),
        *("storageClassName", "mountOptions", "nodeAffinity", "volumeAttributesClassName"),
    }
)


def check_volume(volume: Object) -> list[Cause]:
    """Return what is wrong with a PersistentVolume."""
    spec = volume.get("spec") or {}
    causes = _check_access_modes(spec)
    size = (spec.get("capacity") or {}).get("storage")
    causes += [required("spec.capacity")] if size is None else _check_size("spec.capacity", size)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy not in (None, *_RECLAIM_POLICIES):
        field = "spec.persistentVolumeReclaimPolicy"
        causes.append(not_supported(field, policy, _RECLAIM_POLICIES))
    sources = sorted(spec.keys() - _NOT_SOURCES)
    if not sources:
        causes.append(required("spec", "must specify a volume type"))
    causes += [
        forbidden(f"spec.{extra}", "may not specify more than 1 volume type")
        for extra in sources[1:]
    ]
    return causes + _check_paths(spec)


def check_claim(claim: Object) -> list[Cause]:
    """Return what is wrong with a PersistentVolumeClaim."""
    spec = claim.get("spec") or {}
    causes = _check_access_modes(spec)
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    field = "spec.resources[storage]"
    return causes + ([required(field)] if size is None else _check_size(field, size))


def check_class(storage_class: Object) -> list[Cause]:
    """Return what is wrong with a StorageClass."""
    causes = [] if storage_class.get("provisioner") else [required("provisioner")]
    known = ["Immediate", "WaitForFirstConsumer"]
    mode = storage_class.get("volumeBindingMode")
    if mode not in (None, *known):
        causes.append(not_supported("volumeBindingMode", mode, known))
    return causes


def volume_update(volume: Object, old: Object) -> list[Cause]:
    """Return what an update of a PersistentVolume changes that may not change."""
    now, before = volume.get("spec") or {}, old.get("spec") or {}
    sources = (now.keys() | before.keys()) - _NOT_SOURCES
    if any(now.get(key) != before.get(key) for key in sources):
        field = "spec.persistentvolumesource"
        return [forbidden(field, f"{field} is immutable after creation")]
    return []


def claim_update(claim: Object, old: Object) -> list[Cause]:
    """Return what an update of a claim changes that may not change: a binding is made once."""
    now, before = dict(claim.get("spec") or {}), dict(old.get("spec") or {})
    for key in ("resources", "volumeAttributesClassName"):
        now.pop(key, None)
        before.pop(key, None)
    for once in ("volumeName", "storageClassName"):  # what is not set yet may be set
        if before.get(once) is None:
            now.pop(once, None)
            before.pop(once, None)
    if now == before:
        return []
    text = (
        "spec is immutable after creation except resources.requests and volumeAttributesClassName"
    )
    return [forbidden("spec", f"{text} for bound claims")]


def _check_access_modes(spec: Object) -> list[Cause]:
    modes = spec.get("accessModes") or []
    if not modes:
        return [required("spec.accessModes", "at least 1 access mode is required")]
    causes = [
        not_supported("spec.accessModes", mode, ACCESS_MODES)
        for mode in modes
        if mode not in ACCESS_MODES
    ]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        causes.append(forbidden("spec.accessModes", text))
    return causes


def _check_size(field: str, size: Any) -> list[Cause]:
    try:
        good = parse_quantity(str(size)) > 0
    except ValueError:
        return []  # its type was checked before
    return [] if good else [invalid(field, size, "must be greater than zero")]


def _check_paths(spec: Object) -> list[Cause]:
    causes = []
    for kind in ("hostPath", "local"):
        source = spec.get(kind)
        if not isinstance(source, dict):
            continue
        path = str(source.get("path") or "")
        if not path:
            causes.append(required(f"spec.{kind}.path"))
        elif ".." in path.split("/"):
            causes.append(invalid(f"spec.{kind}.path", path, "must not contain '..'"))
        elif kind == "local" and not path.startswith("/"):
            causes.append(invalid("spec.local.path", path, "must be an absolute path"))
    if "local" in spec and not (spec.get("nodeAffinity") or {}).get("required"):
        causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return causes
