"""Which persistent volume a pod's volume stands for: claim and volume as the cloud sent them; pure.

The node holds PersistentVolumeClaims of its pods and the PersistentVolumes they are bound to, without their status:
that a claim is bound shows in the annotation that the binder sets last, and in the volume's claimRef.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edgecore.edged.spec.podspec import HostPath, Part, Pod, Volume
from edgecore.edged.volumes.errors import UnmountedError, VolumeError
from synccore.messages import ObjectKey

CLAIM, VOLUME = "PersistentVolumeClaim", "PersistentVolume"
BOUND_ANNOTATION = "pv.kubernetes.io/bind-completed"

# Kind, namespace, name -> uid and body, None if it is not here.
Find = Callable[[ObjectKey], "Held | None"]


@dataclass(frozen=True, slots=True)
class Held:
    """A stored object."""

    uid: str
    body: bytes


@dataclass(frozen=True, slots=True)
class ClaimedVolume:
    """A bound claim's place on this node.

    Shapes:  host_path: checks as of a hostPath volume; local volumes have the type "" and must exist.
             managed: fsGroup applies (local volumes, not hostPath).
    """

    volume: str
    host_path: HostPath
    managed: bool
    read_only: bool


class _Owner(Part, frozen=True):
    uid: str = ""
    controller: bool = False


class _Meta(Part, frozen=True):
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    owner_references: tuple[_Owner, ...] = ()


class _ClaimSpec(Part, frozen=True):
    volume_name: str = ""
    volume_mode: str = "Filesystem"


class _Claim(Part, frozen=True):
    metadata: _Meta = _Meta()
    spec: _ClaimSpec = _ClaimSpec()


class _ClaimRef(Part, frozen=True):
    uid: str = ""


class _Local(Part, frozen=True):
    path: str
    fs_type: str = ""


class _Requirement(Part, frozen=True):
    key: str
    operator: str
    values: tuple[str, ...] = ()


class _Term(Part, frozen=True):
    match_expressions: tuple[_Requirement, ...] = ()
    match_fields: tuple[_Requirement, ...] = ()


class _Selector(Part, frozen=True):
    node_selector_terms: tuple[_Term, ...] = ()


class _Affinity(Part, frozen=True):
    required: _Selector | None = None


class _VolumeSpec(Part, frozen=True):
    claim_ref: _ClaimRef | None = None
    local: _Local | None = None
    host_path: HostPath | None = None
    node_affinity: _Affinity | None = None
    volume_mode: str = "Filesystem"


class _Volume(Part, frozen=True):
    spec: _VolumeSpec = _VolumeSpec()


# Members of a PersistentVolume's spec that are no place of it.
_NOT_SOURCES = frozenset(
    {
        *("capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "volumeMode"),
        *("storageClassName", "mountOptions", "nodeAffinity", "volumeAttributesClassName"),
    }
)


def claim_name(pod: Pod, volume: Volume) -> str:
    """Return the name of the claim behind `volume`, "" if it is of another type."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def claim_keys(pod: Pod) -> set[ObjectKey]:
    """Return the keys of all claims that `pod` uses."""
    names = {claim_name(pod, volume) for volume in pod.spec.volumes} - {""}
    return {ObjectKey(CLAIM, pod.metadata.namespace, name) for name in names}


def volume_key(claim: bytes) -> ObjectKey | None:
    """Return the key of the volume that a claim's body names."""
    try:
        name = _decode(claim, _Claim).spec.volume_name
    except msgspec.DecodeError:
        return None
    return ObjectKey(VOLUME, "", name) if name else None


def resolve(
    pod: Pod, volume: Volume, find: Find, node_labels: Mapping[str, str]
) -> ClaimedVolume | None:
    """Return what the claim of `volume` is bound to, None if it is no claim.

    Raises:  UnmountedError: with kubelet's sentence; it may pass.
    """
    name = claim_name(pod, volume)
    if not name:
        return None
    try:
        return _resolve(pod, volume, name, find, node_labels)
    except msgspec.DecodeError as exc:
        raise UnmountedError(volume.name, f"claim or volume does not decode: {exc}") from exc
    except ValueError as exc:
        problem = f"error processing PVC {pod.metadata.namespace}/{name}: {exc}"
        raise UnmountedError(volume.name, problem) from exc


def _resolve(
    pod: Pod, volume: Volume, name: str, find: Find, node_labels: Mapping[str, str]
) -> ClaimedVolume:
    held = find(ObjectKey(CLAIM, pod.metadata.namespace, name))
    if held is None:
        raise ValueError(
            f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found'
        )
    claim = _decode(held.body, _Claim)
    owners = {owner.uid for owner in claim.metadata.owner_references if owner.controller}
    if volume.ephemeral is not None and pod.metadata.uid not in owners:
        raise ValueError(f'PVC "{name}" was not created for pod {pod.metadata.name}')
    if not claim.spec.volume_name or BOUND_ANNOTATION not in claim.metadata.annotations:
        raise ValueError("PVC is not bound")
    bound = find(ObjectKey(VOLUME, "", claim.spec.volume_name))
    if bound is None:
        raise ValueError(
            f'failed to fetch PV {claim.spec.volume_name} from API server: persistentvolumes "'
            f'{claim.spec.volume_name}" not found'
        )
    spec = _decode(bound.body, _Volume).spec
    if spec.claim_ref is None or spec.claim_ref.uid != held.uid:
        raise ValueError(f"PV {claim.spec.volume_name} is bound to another PVC")
    if "Block" in (claim.spec.volume_mode, spec.volume_mode):
        raise ValueError(
            f"volume {volume.name} has volumeMode Block, which this node does not serve"
        )
    _check_affinity(claim.spec.volume_name, spec.node_affinity, node_labels)
    source = volume.persistent_volume_claim
    read_only = source is not None and source.read_only
    return _placed(claim.spec.volume_name, volume.name, spec, bound.body, read_only=read_only)


def _placed(
    name: str, volume: str, spec: _VolumeSpec, body: bytes, *, read_only: bool
) -> ClaimedVolume:
    if spec.local is not None:
        place = HostPath(path=spec.local.path)
        return ClaimedVolume(name, place, managed=not read_only, read_only=read_only)
    if spec.host_path is not None:
        return ClaimedVolume(name, spec.host_path, managed=False, read_only=read_only)
    members: dict[str, Any] = msgspec.json.decode(body).get("spec") or {}
    kinds = sorted(k for k, v in members.items() if v is not None and k not in _NOT_SOURCES)
    raise UnmountedError(
        volume,
        f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched: '
        f"type {', '.join(kinds) or 'unknown'} is not served by this node",
    )


def _check_affinity(name: str, affinity: _Affinity | None, labels: Mapping[str, str]) -> None:
    """Refuse a volume of another node. Labels that only the cluster knows are the scheduler's business."""
    terms = affinity.required.node_selector_terms if affinity and affinity.required else ()
    if terms and not any(_fits(term, labels) for term in terms):
        raise VolumeError(
            f'MountVolume.NodeAffinity check failed for volume "{name}" : no matching NodeSelectorTerms'
        )


def _fits(term: _Term, labels: Mapping[str, str]) -> bool:
    known = {**labels, "metadata.name": labels.get("kubernetes.io/hostname", "")}
    for requirement in (*term.match_expressions, *term.match_fields):
        if requirement.key not in known:
            continue
        within = known[requirement.key] in requirement.values
        if requirement.operator == "In" and not within:
            return False
        if requirement.operator == "NotIn" and within:
            return False
        if requirement.operator == "DoesNotExist":
            return False
    return True


def _decode(body: bytes, shape: type[Any]) -> Any:
    """Decode `body`, where a null and an absent member are one. Raises: msgspec.DecodeError."""
    try:
        return msgspec.convert(_without_nulls(msgspec.json.decode(body)), shape)
    except (UnicodeDecodeError, RecursionError) as exc:  # msgspec lets these through
        raise msgspec.DecodeError(str(exc)) from exc


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
