"""Which pods make room for a critical one: as few and as unimportant ones as will do; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from edgecore.edged.admission.demands import Demands

PREEMPTED_REASON = "Preempting"
PREEMPTED_MESSAGE = "Preempted in order to admit critical pod"
# Best effort is given up first, so it is chosen last: only what the others could not free.
_GUARDED_FIRST = ("Guaranteed", "Burstable", "BestEffort")
Amounts = Mapping[str, Decimal]


def victims(
    critical: Demands, shortage: Amounts, others: Sequence[Demands]
) -> list[Demands] | None:
    """Return whom to end so that `critical` fits, or None if even all of them would not do."""
    candidates = [o for o in others if preemptable(critical, o)]
    by_class = {qos: [c for c in candidates if c.qos == qos] for qos in _GUARDED_FIRST}
    chosen: list[Demands] = []
    for position, qos in enumerate(_GUARDED_FIRST):
        later = [c for other in _GUARDED_FIRST[position + 1 :] for c in by_class[other]]
        # What all less important ones together leave missing must come from this class.
        picked = _fewest(by_class[qos], _minus(shortage, [*chosen, *later]))
        if picked is None:
            return None
        chosen += picked
    return chosen


def preemptable(critical: Demands, other: Demands) -> bool:
    """Return whether `other` may be ended for the sake of `critical`."""
    if critical.critical and not other.critical:
        return True
    return critical.critical and not other.static and critical.priority > other.priority


def _fewest(pods: Sequence[Demands], needs: Amounts) -> list[Demands] | None:
    """Return as few of `pods` as free `needs`, the one that helps most first; None if all do not."""
    left, chosen = list(pods), list[Demands]()
    while needs:
        if not left:
            return None
        best = min(left, key=lambda p: (_distance(p, needs), _size(p), p.uid))
        left.remove(best)
        chosen.append(best)
        needs = _minus(needs, [best])
    return chosen


def _distance(pod: Demands, needs: Amounts) -> float:
    """Return how far from `needs` the world is without `pod`: 0 if that alone frees them."""
    parts = [max(need - _freed(pod, name), Decimal(0)) / need for name, need in needs.items()]
    return float(sum(part * part for part in parts))


def _size(pod: Demands) -> float:
    return float(sum(pod.requests.values()))


def _minus(needs: Amounts, pods: Sequence[Demands]) -> dict[str, Decimal]:
    left = {name: need - sum(_freed(p, name) for p in pods) for name, need in needs.items()}
    return {name: need for name, need in left.items() if need > 0}


def _freed(pod: Demands, resource: str) -> Decimal:
    return Decimal(1) if resource == "pods" else pod.requests.get(resource, Decimal(0))
