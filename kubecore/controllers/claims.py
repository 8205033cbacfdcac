"""Which PersistentVolume serves which claim, and on which nodes: pure decisions in upstream's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kubecore.values.quantities import parse_quantity
from kubecore.values.selectors import match_expression, match_label_selector

Object = dict[str, Any]
Key = tuple[str, str]

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
WAIT_FOR_CONSUMER = "WaitForFirstConsumer"
ONE_POD = "ReadWriteOncePod"


@dataclass
class Volumes:
    """Claims, volumes and classes as they are now, by (namespace, name); `taken`: claims of pods with a node."""

    claims: Mapping[Key, Object] = field(default_factory=dict)
    volumes: Mapping[Key, Object] = field(default_factory=dict)
    classes: Mapping[Key, Object] = field(default_factory=dict)
    taken: set[Key] = field(default_factory=set)

    def take(self, pod: Object) -> None:
        """Note that `pod` has a node, unless it has ended."""
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            namespace = pod["metadata"].get("namespace", "")
            self.taken |= {(namespace, name) for name in claim_names(pod)}

    def class_of(self, claim: Object) -> Object | None:
        """Return the claim's StorageClass, None if it names none or one that is not there."""
        return self.classes.get(("", class_name(claim)))

    def waits_for_consumer(self, claim: Object) -> bool:
        """Return whether the claim is bound only when a pod that uses it has a node."""
        found = self.class_of(claim)
        return found is not None and found.get("volumeBindingMode") == WAIT_FOR_CONSUMER

    def default_class(self) -> str:
        """Return the name of the class for claims that name none, "" if there is no such class."""
        marked = [
            name
            for (_, name), one in sorted(self.classes.items())
            if (one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"
        ]
        return marked[0] if marked else ""

    def volume_of(self, claim: Object) -> Object | None:
        """Return the volume that the claim is bound to."""
        name = claim["spec"].get("volumeName")
        volume = self.volumes.get(("", name)) if name else None
        return volume if volume is not None and is_bound_to(volume, claim) else None

    def problem(self, pod: Object) -> str:
        """Return why `pod` can be on no node yet, "" if its claims do not stand in the way."""
        namespace = pod["metadata"].get("namespace", "")
        for name in claim_names(pod):
            claim = self.claims.get((namespace, name))
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if "deletionTimestamp" in claim["metadata"]:
                return f'persistentvolumeclaim "{name}" is being deleted'
            if (namespace, name) in self.taken and ONE_POD in (
                claim["spec"].get("accessModes") or ()
            ):
                return (
                    "node has pod using PersistentVolumeClaim with the same name and "
                    "ReadWriteOncePod access mode"
                )
            if not is_complete(claim) and not self.waits_for_consumer(claim):
                return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    def refusals(self, pod: Object, node: Object) -> list[str]:
        """Return why `node` cannot have the volumes of `pod`."""
        namespace = pod["metadata"].get("namespace", "")
        for name in claim_names(pod):
            claim = self.claims.get((namespace, name))
            if claim is None:
                continue
            bound = self.volume_of(claim)
            if bound is not None:
                if not fits_node(bound, node):
                    return ["node(s) had volume node affinity conflict"]
            elif self.find(claim, lambda volume: fits_node(volume, node)) is None:
                return ["node(s) didn't find available persistent volumes to bind"]
        return []

    def find(
        self, claim: Object, also: Callable[[Object], bool] = lambda _volume: True
    ) -> Object | None:
        """Return the smallest volume that `claim` can have, one that was reserved for it first."""
        found = [v for v in self.volumes.values() if matches(claim, v) and also(v)]
        reserved = [v for v in found if v["spec"].get("claimRef")]
        by_size: Callable[[Object], tuple[Decimal, str]] = lambda v: (  # noqa: E731
            capacity(v),
            v["metadata"]["name"],
        )
        return min(reserved or found, key=by_size, default=None)


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod uses, those of its ephemeral volumes among them."""
    names = []
    for volume in pod["spec"].get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            names.append(str(source.get("claimName", "")))
        elif "ephemeral" in volume:
            names.append(f"{pod['metadata']['name']}-{volume['name']}")
    return names


def class_name(obj: Object) -> str:
    """Return the storage class that a claim or a volume names."""
    return str(obj["spec"].get("storageClassName") or "")


def is_complete(claim: Object) -> bool:
    """Return whether the claim is bound, its volume's side included."""
    marked = BIND_COMPLETED in (claim["metadata"].get("annotations") or {})
    return marked and bool(claim["spec"].get("volumeName"))


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Return whether the volume's claimRef is this claim, by its uid."""
    reference = volume["spec"].get("claimRef") or {}
    return bool(reference.get("uid") == claim["metadata"]["uid"])


def refers_to(volume: Object, claim: Object) -> bool:
    """Return whether the volume is this claim's, or reserved for it by name."""
    reference = volume["spec"].get("claimRef") or {}
    meta = claim["metadata"]
    same = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
    return same and reference.get("uid", "") in ("", meta["uid"])


def matches(claim: Object, volume: Object) -> bool:
    """Return whether `claim` can be bound to `volume`."""
    spec = claim["spec"]
    if "deletionTimestamp" in volume["metadata"] or not _is_free(volume, claim):
        return False
    wanted = spec.get("volumeName")
    if wanted and wanted != volume["metadata"]["name"]:
        return False
    labels = volume["metadata"].get("labels") or {}
    return (
        class_name(claim) == class_name(volume)
        and spec.get("volumeMode", "Filesystem") == volume["spec"].get("volumeMode", "Filesystem")
        and set(spec.get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
        and capacity(volume) >= _quantity((spec.get("resources") or {}).get("requests"))
        and (not spec.get("selector") or match_label_selector(spec["selector"], labels))
    )


def capacity(volume: Object) -> Decimal:
    """Return how much storage a volume says it has."""
    return _quantity(volume["spec"].get("capacity"))


def fits_node(volume: Object, node: Object) -> bool:
    """Return whether the volume's node affinity takes `node`."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        all(match_expression(e, labels) for e in term.get("matchExpressions") or ())
        and all(match_expression(e, fields) for e in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or ()
        if term.get("matchExpressions") or term.get("matchFields")
    )


def _is_free(volume: Object, claim: Object) -> bool:
    if volume["spec"].get("claimRef"):
        return refers_to(volume, claim)
    return volume.get("status", {}).get("phase", "Pending") in ("Pending", "Available")


def _quantity(amounts: Any) -> Decimal:
    text = (amounts or {}).get("storage", "0")
    try:
        return parse_quantity(str(text))
    except ValueError:  # checked when it was written
        return Decimal(0)
