"""What a pod asks of its node before it runs: amounts, ports, labels, taints; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.spec.resources import amount, qos_class

# kubelet's: a pod of at least this priority keeps the node alive and is neither refused nor evicted for others.
CRITICAL_PRIORITY = 2_000_000_000
SOURCE_ANNOTATION = "kubernetes.io/config.source"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
HostPort = tuple[str, str, int]  # protocol, host address ("" for all), port


class Toleration(msgspec.Struct, frozen=True):
    """One toleration of a pod."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Requirement(msgspec.Struct, frozen=True):
    """One expression over the node's labels or fields."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeTerm(msgspec.Struct, frozen=True, rename="camel"):
    """Expressions that must all hold."""

    match_expressions: tuple[Requirement, ...] = ()
    match_fields: tuple[Requirement, ...] = ()


class _Required(msgspec.Struct, frozen=True, rename="camel"):
    node_selector_terms: tuple[NodeTerm, ...] = ()


class _NodeAffinity(msgspec.Struct, frozen=True, rename="camel"):
    required: _Required | None = msgspec.field(
        default=None, name="requiredDuringSchedulingIgnoredDuringExecution"
    )


class _Affinity(msgspec.Struct, frozen=True, rename="camel"):
    node_affinity: _NodeAffinity | None = None


class _Os(msgspec.Struct, frozen=True):
    name: str = ""


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: _Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    priority: int | None = None
    overhead: dict[str, str | int | float] = {}
    os: _Os | None = None


class _Document(msgspec.Struct, frozen=True):
    spec: _Spec = _Spec()


@dataclass(frozen=True, slots=True)
class Demands:
    """One pod as admission and eviction see it.

    Units:   requests: base units (cores, bytes), a pod's effective request: init containers and overhead counted.
    Shapes:  terms: None without a required node affinity; else one of them must match. problem: why the
             pod's scheduling fields cannot be judged, "" if they can.
    """

    uid: str
    name: str
    namespace: str
    requests: Mapping[str, Decimal] = field(default_factory=dict)
    host_ports: frozenset[HostPort] = frozenset()
    priority: int = 0
    qos: str = "BestEffort"
    static: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    node_name: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    terms: Sequence[NodeTerm] | None = None
    tolerations: Sequence[Toleration] = ()
    os: str = ""
    problem: str = ""

    @property
    def critical(self) -> bool:
        """Return whether the node needs this pod more than any ordinary one."""
        return self.static or self.priority >= CRITICAL_PRIORITY


def demands_of(pod: Pod, tree: dict[str, Any]) -> Demands:
    """Return what `pod` asks of its node.

    Shapes:  tree: the document that `decode_pod` returned beside the pod.
    """
    problem = ""
    try:
        spec = msgspec.convert({"spec": tree.get("spec", {})}, _Document).spec
        overhead = {name: parse_quantity(value) for name, value in spec.overhead.items()}
    except (msgspec.ValidationError, ValueError) as exc:
        spec, overhead, problem = _Spec(), {}, str(exc).replace("`", "").replace("$.", "")
    meta = pod.metadata
    affinity = spec.affinity.node_affinity if spec.affinity else None
    source = meta.annotations.get(SOURCE_ANNOTATION, "api")
    return Demands(
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        requests=_added(effective_requests(pod), overhead),
        host_ports=_host_ports(pod),
        priority=spec.priority or 0,
        qos=qos_class(pod),
        static=source != "api" or MIRROR_ANNOTATION in meta.annotations,
        labels=meta.labels,
        node_name=spec.node_name,
        node_selector=spec.node_selector,
        terms=affinity.required.node_selector_terms if affinity and affinity.required else None,
        tolerations=spec.tolerations,
        os=spec.os.name if spec.os else "",
        problem=problem,
    )


def effective_requests(pod: Pod) -> dict[str, Decimal]:
    """Return the most that `pod` requests at one time, overhead aside.

    Sidecars run beside everything that starts after them; other init containers run one at a time.
    """
    sidecars: dict[str, Decimal] = {}
    peak: dict[str, Decimal] = {}
    for container in pod.spec.init_containers:
        own = _requests(container)
        if container.is_sidecar:
            sidecars = _added(sidecars, own)
            peak = _largest(peak, sidecars)
        else:
            peak = _largest(peak, _added(sidecars, own))
    together = sidecars
    for container in pod.spec.containers:
        together = _added(together, _requests(container))
    whole = pod.spec.resources  # of the pod, and then its containers' do not count
    own = {
        name: parse_quantity(value) for name, value in {**whole.limits, **whole.requests}.items()
    }
    return {**_largest(peak, together), **own}


def _requests(container: Container) -> dict[str, Decimal]:
    names = {*container.resources.requests, *container.resources.limits}
    return {name: amount(container, "requests", name) for name in names}


def _added(a: Mapping[str, Decimal], b: Mapping[str, Decimal]) -> dict[str, Decimal]:
    zero = Decimal(0)
    return {name: a.get(name, zero) + b.get(name, zero) for name in {**a, **b}}


def _largest(a: Mapping[str, Decimal], b: Mapping[str, Decimal]) -> dict[str, Decimal]:
    zero = Decimal(0)
    return {name: max(a.get(name, zero), b.get(name, zero)) for name in {**a, **b}}


def _host_ports(pod: Pod) -> frozenset[HostPort]:
    containers = [*pod.spec.containers, *(c for c in pod.spec.init_containers if c.is_sidecar)]
    ports = [port for container in containers for port in container.ports]
    # With the host's network every port of a container is one of the host's; the API server fills hostPort in.
    found = [(p.protocol, p.host_ip, p.host_port) for p in ports if p.host_port]
    if pod.spec.host_network:
        found += [(p.protocol, "", p.container_port) for p in ports if not p.host_port]
    return frozenset((proto, "" if ip == "0.0.0.0" else ip, n) for proto, ip, n in found)  # noqa: S104
