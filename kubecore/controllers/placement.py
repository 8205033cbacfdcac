"""Where a pod can run: pure decisions over a pod, the nodes and the pods already placed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from kubecore.controllers.claims import Volumes
from kubecore.values.requests import ZERO, amounts, pod_requests
from kubecore.values.selectors import match_expression

Object = dict[str, Any]
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"
NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
# What kubelet allows where a node does not say.
DEFAULT_MAX_PODS = Decimal(110)
NO_VOLUMES = Volumes()


@dataclass
class NodeLoad:
    """What the pods on a node already take."""

    requests: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    pods: int = 0
    ports: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, pod: Object) -> None:
        """Count `pod`."""
        for name, amount in pod_requests(pod).items():
            self.requests[name] += amount
        self.pods += 1
        self.ports |= host_ports(pod)


@dataclass(frozen=True)
class Placed:
    """The node a pod goes to."""

    node: str


@dataclass(frozen=True)
class Unplaced:
    """Why no node takes a pod, in kube-scheduler's words."""

    message: str


def place(
    pod: Object,
    nodes: list[Object],
    loads: dict[str, NodeLoad],
    volumes: Volumes = NO_VOLUMES,
) -> Placed | Unplaced:
    """Return the least loaded node that takes `pod`, or why none does."""
    if not nodes:
        return Unplaced("no nodes available to schedule pods")
    if problem := volumes.problem(pod):
        return Unplaced(f"0/{len(nodes)} nodes are available: {problem}.")
    reasons: Counter[str] = Counter()
    fitting: list[Object] = []
    for node in nodes:
        refused = refusals(pod, node, loads.get(node["metadata"]["name"], NodeLoad()))
        refused = refused or volumes.refusals(pod, node)
        if refused:
            reasons.update(refused)
        else:
            fitting.append(node)
    if not fitting:
        listed = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        return Unplaced(f"0/{len(nodes)} nodes are available: {listed}.")
    best = min(fitting, key=lambda node: _rank(pod, node, loads))
    return Placed(best["metadata"]["name"])


def refusals(pod: Object, node: Object, load: NodeLoad) -> list[str]:
    """Return why `node` does not take `pod`: the first filter that refuses, with all its reasons."""
    tolerations = pod["spec"].get("tolerations") or []
    if node.get("spec", {}).get("unschedulable") and not _tolerated(
        {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}, tolerations
    ):
        return ["node(s) were unschedulable"]
    for taint in effective_taints(node):
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(
            taint, tolerations
        ):
            return [
                f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value', '')}}}"
            ]
    if not matches_node(pod, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if host_ports(pod) & load.ports:
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _lacking(pod, node, load)


def effective_taints(node: Object) -> list[Object]:
    """Return the node's taints, and for a node that is not ready the one that node lifecycle is about to add."""
    spec = node.get("spec", {})
    taints = [t for t in spec.get("taints") or [] if t.get("key") != UNSCHEDULABLE_TAINT]
    status = next(
        (
            c.get("status")
            for c in node.get("status", {}).get("conditions") or []
            if c.get("type") == "Ready"
        ),
        "False",
    )
    if status != "True":
        key = UNREACHABLE_TAINT if status == "Unknown" else NOT_READY_TAINT
        taints.append({"key": key, "effect": "NoSchedule"})
    return taints


def _tolerated(taint: Object, tolerations: list[Object]) -> bool:
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    # No key with Equal matches nothing; only Exists may leave the key out.
    same_value = toleration.get("value", "") == taint.get("value", "")
    return bool(toleration.get("key")) and same_value


def matches_node(pod: Object, node: Object) -> bool:
    """Tell whether the pod's node selector and required node affinity take `node`."""
    labels = node["metadata"].get("labels") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_term(term, labels, fields) for term in required.get("nodeSelectorTerms") or [])


def _term(term: Object, labels: dict[str, str], fields: dict[str, str]) -> bool:
    expressions = term.get("matchExpressions") or []
    by_field = term.get("matchFields") or []
    if not expressions and not by_field:
        return False  # an empty term selects nothing
    return all(match_expression(e, labels) for e in expressions) and all(
        match_expression(e, fields) for e in by_field
    )


def _lacking(pod: Object, node: Object, load: NodeLoad) -> list[str]:
    allocatable = _allocatable(node)
    found = []
    if load.pods + 1 > allocatable.get("pods", DEFAULT_MAX_PODS):
        found.append("Too many pods")
    for name, amount in sorted(pod_requests(pod).items()):
        if amount and load.requests[name] + amount > allocatable.get(name, ZERO):
            found.append(f"Insufficient {name}")
    return found


def _allocatable(node: Object) -> dict[str, Decimal]:
    status = node.get("status", {})
    return amounts(status.get("allocatable") or status.get("capacity") or {})


def host_ports(pod: Object) -> set[tuple[str, str, int]]:
    """Return the (host IP, protocol, port) that a pod takes from its node."""
    spec = pod["spec"]
    return {
        (port.get("hostIP", "0.0.0.0"), port.get("protocol", "TCP"), port["hostPort"])  # noqa: S104
        for container in spec.get("containers") or []
        for port in container.get("ports") or []
        if port.get("hostPort")
    }


def _rank(pod: Object, node: Object, loads: dict[str, NodeLoad]) -> tuple[Decimal, int, str]:
    """Return a sort key: the least used share of cpu and memory first, then the fewest pods."""
    name = node["metadata"]["name"]
    load = loads.get(name, NodeLoad())
    wanted, allocatable = pod_requests(pod), _allocatable(node)
    used = ZERO
    for resource in ("cpu", "memory"):
        if size := allocatable.get(resource, ZERO):
            used += (load.requests[resource] + wanted.get(resource, ZERO)) / size
    return used, load.pods, name


def loads_of(pods: list[Object]) -> dict[str, NodeLoad]:
    """Return what each node already carries; pods that have ended take nothing."""
    loads: dict[str, NodeLoad] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            loads.setdefault(node, NodeLoad()).add(pod)
    return loads
