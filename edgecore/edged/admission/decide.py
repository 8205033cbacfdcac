"""The decision itself: one pod, the node, the pods that are on it already; kubelet's order and words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from edgecore.edged.admission.demands import Demands
from edgecore.edged.admission.matching import (
    Taint,
    matches_node,
    ports_conflict,
    tolerates,
    untolerated,
)
from edgecore.edged.spec.quantity import ceil_of

_MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
_COUNTED = ("cpu", "memory", "ephemeral-storage")  # checked in this order, before all others
OS_LABEL = "kubernetes.io/os"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node as admission sees it.

    Shapes:  labels, taints: the Node's own, None while they are not known: then they refuse nobody.
             pressures: conditions that hold now, as MemoryPressure.
    """

    name: str
    allocatable: Mapping[str, Decimal] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    taints: Sequence[Taint] | None = None
    pressures: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a pod is not taken, in kubelet's words.

    Shapes:  shortage: what it lacks of each resource; empty if more room would not help.
    """

    reason: str
    message: str
    shortage: Mapping[str, Decimal] = field(default_factory=dict)


def decide(demands: Demands, node: NodeFacts, others: Sequence[Demands]) -> Refusal | None:
    """Return why the node does not take the pod, or None: it takes it.

    Shapes:  others: the pods that hold a place on the node now, without this one.
    """
    return (
        _under_pressure(demands, node)
        or _other_system(demands)
        or _unreadable(demands)
        or _mismatch_or_shortage(demands, node, others)
    )


def _under_pressure(demands: Demands, node: NodeFacts) -> Refusal | None:
    if not node.pressures or demands.critical:
        return None
    if tuple(node.pressures) == ("MemoryPressure",) and (
        demands.qos != "BestEffort" or tolerates(demands.tolerations, _MEMORY_TAINT)
    ):
        return None
    return Refusal("Evicted", f"The node had condition: [{' '.join(node.pressures)}]. ")


def _other_system(demands: Demands) -> Refusal | None:
    if demands.labels.get(OS_LABEL, "linux") != "linux":
        return Refusal(
            "PodOSSelectorNodeLabelDoesNotMatch",
            f"Failed to admit pod as the `{OS_LABEL}` label doesn't match node label",
        )
    if demands.os not in ("", "linux"):
        return Refusal(
            "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
        )
    return None


def _unreadable(demands: Demands) -> Refusal | None:
    if not demands.problem:
        return None
    message = f"Allocate failed due to {demands.problem}, which is unexpected"
    return Refusal("UnexpectedAdmissionError", message)


def _mismatch_or_shortage(
    demands: Demands, node: NodeFacts, others: Sequence[Demands]
) -> Refusal | None:
    """Return the first failed predicate; a shortage comes first, but only if nothing else fails can room help."""
    short = _shortage(demands, node, others)
    predicate = _predicate(demands, node, others)
    if short is not None and predicate is not None:
        return Refusal(short.reason, short.message)
    return short or predicate


def _shortage(demands: Demands, node: NodeFacts, others: Sequence[Demands]) -> Refusal | None:
    first: Refusal | None = None
    lacking: dict[str, Decimal] = {}
    for resource, wanted, used in _amounts(demands, node, others):
        capacity = node.allocatable.get(resource, Decimal(0))
        if not wanted or wanted <= capacity - used:
            continue
        lacking[resource] = wanted - (capacity - used)
        scale = 1000 if resource == "cpu" else 1
        shown = [ceil_of(number * scale) for number in (wanted, used, capacity)]
        first = first or Refusal(
            f"OutOf{resource}",
            f"Node didn't have enough resource: {resource}, requested: {shown[0]}, "
            f"used: {shown[1]}, capacity: {shown[2]}",
        )
    return None if first is None else Refusal(first.reason, first.message, lacking)


def _amounts(
    demands: Demands, node: NodeFacts, others: Sequence[Demands]
) -> list[tuple[str, Decimal, Decimal]]:
    """Return (resource, wanted, used by others) of what this node counts."""
    rest = sorted(
        name for name in demands.requests if name not in _COUNTED and name in node.allocatable
    )  # an extended resource that the node does not have is the cluster's and not for it to count
    rows: list[tuple[str, Decimal, Decimal]] = []
    if "pods" in node.allocatable:
        rows.append(("pods", Decimal(1), Decimal(len(others))))
    for resource in (*(r for r in _COUNTED if r in node.allocatable), *rest):
        used = sum((o.requests.get(resource, Decimal(0)) for o in others), Decimal(0))
        rows.append((resource, demands.requests.get(resource, Decimal(0)), used))
    return rows


def _predicate(demands: Demands, node: NodeFacts, others: Sequence[Demands]) -> Refusal | None:
    if node.labels is not None and not matches_node(demands, node.labels, node.name):
        return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if demands.node_name not in ("", node.name):
        return _failed("NodeName", "node(s) didn't match the requested node name")
    taken = [port for other in others for port in other.host_ports]
    if ports_conflict(demands.host_ports, taken):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    if not demands.static and untolerated(node.taints or (), demands.tolerations) is not None:
        return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _failed(name: str, description: str) -> Refusal:
    return Refusal(name, f"Predicate {name} failed: {description}")
