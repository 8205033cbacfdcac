"""What a pod asks of its node, and its limits, over all its containers: exact numbers by resource name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from kubecore.values.quantities import parse_quantity

Object = dict[str, Any]
Amounts = dict[str, Decimal]
ZERO = Decimal(0)


def pod_requests(pod: Object) -> Amounts:
    """Return what a pod asks for: its containers together, or an init container if that is more, and its overhead."""
    return _over_containers(pod["spec"], _requests)


def pod_limits(pod: Object) -> Amounts:
    """Return the limits of a pod in the same way."""
    return _over_containers(pod["spec"], _limits)


def _over_containers(spec: Object, of: Callable[[Object], Amounts]) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or []:
        add(total, of(container))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or []:
        wanted = of(container)
        if container.get("restartPolicy") == "Always":
            add(sidecars, wanted)
            wanted = dict(sidecars)
        else:
            add(wanted, sidecars)
        for name, amount in wanted.items():
            peak[name] = max(peak.get(name, ZERO), amount)
    add(total, sidecars)
    for name, amount in peak.items():
        total[name] = max(total.get(name, ZERO), amount)
    overhead = amounts(spec.get("overhead") or {})
    # A limit that nobody set stays unset: overhead is no limit.
    add(total, overhead if of is _requests else {k: v for k, v in overhead.items() if k in total})
    return total


def _requests(container: Object) -> Amounts:
    resources = container.get("resources") or {}
    # A limit without a request is a request; defaults say so too, but pods may be older than them.
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _limits(container: Object) -> Amounts:
    return amounts((container.get("resources") or {}).get("limits") or {})


def amounts(quantities: dict[str, Any]) -> Amounts:
    """Return quantities as numbers; what is none counts as nothing."""
    return {name: _quantity(str(text)) for name, text in quantities.items()}


def add(total: Amounts, more: Amounts) -> None:
    """Add to `total`, in place."""
    for name, amount in more.items():
        total[name] = total.get(name, ZERO) + amount


@lru_cache(maxsize=1024)
def _quantity(text: str) -> Decimal:
    try:
        return parse_quantity(text)
    except ValueError:  # checked when it was written; a node's own report is not worth a crash
        return ZERO
