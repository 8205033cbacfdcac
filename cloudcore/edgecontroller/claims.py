"""What a pod's claims bring along: the volumes they are bound to. Pure bookkeeping.

A claim names its volume only once it is bound, so what a pod needs grows after it was placed.
"""

from __future__ import annotations

from cloudcore.edgecontroller.references import CLAIM, Placement
from synccore.messages import ObjectKey


class ClaimedVolumes:
    """Pods with claims, and claims with volumes."""

    def __init__(self) -> None:
        self._placements: dict[ObjectKey, Placement] = {}
        self._users: dict[ObjectKey, set[ObjectKey]] = {}
        self._volumes: dict[ObjectKey, ObjectKey] = {}

    def place(self, owner: ObjectKey, placement: Placement | None) -> Placement | None:
        """Note where `owner` is; return its placement with the volumes of its claims."""
        before = self._placements.pop(owner, None)
        now = set(_claims(placement))
        for claim in now:
            self._users.setdefault(claim, set()).add(owner)
        for claim in set(_claims(before)) - now:
            users = self._users[claim]
            users.discard(owner)
            if not users:
                del self._users[claim]
                self._volumes.pop(claim, None)
        if placement is None or not now:
            return placement
        self._placements[owner] = placement
        return self._whole(placement)

    def bind(self, claim: ObjectKey, volume: ObjectKey | None) -> dict[ObjectKey, Placement]:
        """Note what `claim` is bound to; return the owners whose placements that changes."""
        if claim not in self._users or self._volumes.get(claim) == volume:
            return {}
        if volume is None:
            del self._volumes[claim]
        else:
            self._volumes[claim] = volume
        return {owner: self._whole(self._placements[owner]) for owner in self._users[claim]}

    def _whole(self, placement: Placement) -> Placement:
        volumes = {self._volumes[c] for c in _claims(placement) if c in self._volumes}
        return placement._replace(refers=placement.refers | volumes)


def _claims(placement: Placement | None) -> list[ObjectKey]:
    return [key for key in placement.refers if key.kind == CLAIM] if placement is not None else []
