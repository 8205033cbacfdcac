"""Which images go when their disk fills, and which dead containers; pure, in kubelet's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from edgecore.edged.runtime import ContainerPhase, ContainerState, ImageState, SandboxState


@dataclass(frozen=True, slots=True)
class ImageNote:
    """When an image was first seen here and last in use; Unix seconds, 0.0 for before this agent began."""

    first_seen_s: float
    last_used_s: float


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """When images are swept.

    Units:   *_percent: of the image file system that is in use. *_age_s: seconds; max_age_s 0 for no limit.
    """

    high_percent: int = 85
    low_percent: int = 80
    min_age_s: float = 120.0
    max_age_s: float = 0.0


def is_used(image: ImageState, used: AbstractSet[str]) -> bool:
    """Return whether `image` is in `used`: ids, names or digests."""
    return image.pinned or image.id in used or not used.isdisjoint(image.names)


def noted(
    images: Sequence[ImageState],
    used: AbstractSet[str],
    notes: Mapping[str, ImageNote],
    now_s: float,
    *,
    first_look: bool,
) -> dict[str, ImageNote]:
    """Return the notes of `images`, brought up to now; on the first look nobody knows how old they are."""
    fresh: dict[str, ImageNote] = {}
    for image in images:
        known = notes.get(image.id) or ImageNote(0.0 if first_look else now_s, 0.0)
        last_used_s = now_s if is_used(image, used) else known.last_used_s
        fresh[image.id] = ImageNote(known.first_seen_s, last_used_s)
    return fresh


def bytes_to_free(capacity_bytes: int, available_bytes: int, policy: ImagePolicy) -> int:
    """Return how much must go to be down at the low mark; 0 while the high one is not reached."""
    if policy.high_percent >= 100:  # kubelet's way to switch it off
        return 0
    used_percent = 100 - available_bytes * 100 // capacity_bytes
    if used_percent < policy.high_percent:
        return 0
    return max(capacity_bytes * (100 - policy.low_percent) // 100 - available_bytes, 0)


def removable(
    images: Sequence[ImageState],
    used: AbstractSet[str],
    notes: Mapping[str, ImageNote],
    now_s: float,
    min_age_s: float,
) -> list[ImageState]:
    """Return the images that may go, the longest unused first."""
    free = [i for i in images if not is_used(i, used) and i.id in notes]
    old = [i for i in free if now_s - notes[i.id].first_seen_s >= min_age_s]
    return sorted(old, key=lambda i: (notes[i.id].last_used_s, notes[i.id].first_seen_s, i.id))


def too_old(
    images: Sequence[ImageState],
    used: AbstractSet[str],
    notes: Mapping[str, ImageNote],
    now_s: float,
    policy: ImagePolicy,
) -> list[ImageState]:
    """Return the images that nobody has used for the longest time they may lie here."""
    if not policy.max_age_s:
        return []
    candidates = removable(images, used, notes, now_s, policy.min_age_s)
    # One that was never seen in use has lain unused since it was first seen.
    idle = ((i, max(notes[i.id].last_used_s, notes[i.id].first_seen_s)) for i in candidates)
    return [image for image, since_s in idle if since_s and now_s - since_s > policy.max_age_s]


def dead_to_remove(
    sandboxes: Sequence[SandboxState],
    now_s: float,
    *,
    min_age_s: float = 0.0,
    per_container: int = 1,
    total: int = -1,
) -> list[ContainerState]:
    """Return the dead containers that are more than are kept, the oldest first.

    Shapes:  per_container: how many dead attempts of one container of a pod are kept; total: of the whole
             node; negative for no limit. The newest attempt of each container is never among them.
    """
    groups: dict[tuple[str, str], list[ContainerState]] = {}
    for sandbox in sandboxes:
        for container in sandbox.containers:
            groups.setdefault((sandbox.pod.uid, container.name), []).append(container)
    kept: list[ContainerState] = []
    removed: list[ContainerState] = []
    for members in groups.values():
        members.sort(key=lambda c: (c.attempt, c.created_s), reverse=True)
        dead = [c for c in members[1:] if _is_dead(c, now_s, min_age_s)]
        # The newest counts if it is dead: it is the one that is kept first.
        spare = max(per_container - _is_dead(members[0], now_s, 0.0), 0)
        keep = dead[:spare] if per_container >= 0 else dead
        kept += keep
        removed += dead[len(keep) :]
    if total >= 0:
        newest_dead = sum(_is_dead(members[0], now_s, 0.0) for members in groups.values())
        excess = newest_dead + len(kept) - total
        removed += sorted(kept, key=lambda c: c.created_s)[: max(excess, 0)]
    return sorted(removed, key=lambda c: (c.created_s, c.id))


def _is_dead(container: ContainerState, now_s: float, min_age_s: float) -> bool:
    ended = container.phase is ContainerPhase.EXITED
    return ended and now_s - (container.finished_s or container.created_s) >= min_age_s
