"""Labels, node affinity, tolerations and ports: what matches what, by Kubernetes' rules; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from edgecore.edged.admission.demands import Demands, HostPort, NodeTerm, Requirement, Toleration

Taint = Mapping[str, str]


def matches_node(demands: Demands, labels: Mapping[str, str], node_name: str) -> bool:
    """Return whether the pod's node selector and required node affinity match the node."""
    if any(labels.get(key) != value for key, value in demands.node_selector.items()):
        return False
    if demands.terms is None:
        return True
    return any(_term_matches(term, labels, node_name) for term in demands.terms)


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Return whether one of `tolerations` tolerates `taint`."""
    return any(_tolerated(toleration, taint) for toleration in tolerations)


def untolerated(taints: Sequence[Taint], tolerations: Sequence[Toleration]) -> Taint | None:
    """Return the first taint of effect NoExecute that no toleration tolerates."""
    evicting = (taint for taint in taints if taint.get("effect") == "NoExecute")
    return next((taint for taint in evicting if not tolerates(tolerations, taint)), None)


def ports_conflict(wanted: Iterable[HostPort], taken: Iterable[HostPort]) -> bool:
    """Return whether a wanted port is taken; a port on all addresses conflicts with one on any."""
    held: dict[tuple[str, int], set[str]] = {}
    for protocol, address, port in taken:
        held.setdefault((protocol, port), set()).add(address)
    for protocol, address, port in wanted:
        addresses = held.get((protocol, port), set())
        if addresses and (not address or "" in addresses or address in addresses):
            return True
    return False


def _term_matches(term: NodeTerm, labels: Mapping[str, str], node_name: str) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False  # Kubernetes' rule: an empty term matches no node
    fields = {"metadata.name": node_name}
    return all(_holds(r, labels) for r in term.match_expressions) and all(
        _holds(r, fields) for r in term.match_fields
    )


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    check = _OPERATORS.get(requirement.operator)
    return check is not None and check(labels.get(requirement.key), requirement.values)


def _compares(
    value: str | None, values: Sequence[str], compare: Callable[[int, int], bool]
) -> bool:
    try:
        return value is not None and len(values) == 1 and compare(int(value), int(values[0]))
    except ValueError:
        return False


_OPERATORS: dict[str, Callable[[str | None, Sequence[str]], bool]] = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, _: value is not None,
    "DoesNotExist": lambda value, _: value is None,
    "Gt": lambda value, values: _compares(value, values, int.__gt__),
    "Lt": lambda value, values: _compares(value, values, int.__lt__),
}


def _tolerated(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.get("effect"):
        return False
    if toleration.key and toleration.key != taint.get("key"):
        return False
    if toleration.operator == "Exists":
        return True
    # A toleration without a key tolerates everything, but only with Exists.
    same = toleration.value == taint.get("value", "")
    return bool(toleration.key) and toleration.operator in ("", "Equal") and same
