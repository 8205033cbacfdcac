"""Everything from outside that a pod's volumes are made of, gathered before threads make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgecore.edged.containers.environment import Lookup, PodFacts
from edgecore.edged.spec.podspec import Pod
from edgecore.edged.volumes.claims import (
    ClaimedVolume,
    Held,
    claim_keys,
    resolve,
    volume_key,
)
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.tokens import TokenManager, TokenView
from edgecore.records import RecordStore
from synccore.messages import ObjectKey


@dataclass(frozen=True)
class VolumeInputs:
    """Objects, facts, tokens and claims of one pod, as they are now.

    Shapes:  claims: volume name -> its place, or why there is none.
    """

    lookup: Lookup
    facts: PodFacts
    tokens: TokenView = field(default_factory=TokenView)
    claims: Mapping[str, ClaimedVolume | VolumeError] = field(default_factory=dict)

    def claimed(self, volume: str) -> ClaimedVolume | None:
        """Return the place of a claim. Raises: VolumeError: it has none yet."""
        place = self.claims.get(volume)
        if isinstance(place, VolumeError):
            raise place
        return place


async def gather_inputs(
    pod: Pod,
    store: RecordStore,
    tokens: TokenManager,
    lookup: Lookup,
    facts: PodFacts,
    node_labels: Mapping[str, str],
) -> VolumeInputs:
    """Return the inputs of `pod`; asks the cloud for tokens that are missing or due."""
    claims = await _claims(pod, store, node_labels)
    return VolumeInputs(lookup, facts, await tokens.view(pod), claims)


async def _claims(
    pod: Pod, store: RecordStore, node_labels: Mapping[str, str]
) -> dict[str, ClaimedVolume | VolumeError]:
    held: dict[ObjectKey, Held] = {}
    for key in claim_keys(pod):
        if (stored := await store.get(key)) is None:
            continue
        held[key] = Held(stored.uid, stored.body)
        bound = volume_key(stored.body)
        if bound is not None and (backing := await store.get(bound)) is not None:
            held[bound] = Held(backing.uid, backing.body)
    found: dict[str, ClaimedVolume | VolumeError] = {}
    for volume in pod.spec.volumes:
        try:
            place = resolve(pod, volume, held.get, node_labels)
        except VolumeError as exc:
            found[volume.name] = exc
        else:
            if place is not None:
                found[volume.name] = place
    return found
