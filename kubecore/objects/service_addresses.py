"""Gives services their cluster IPs and node ports, and keeps what they have through updates.

What is taken is read from the services that are there or on their way, so nothing can leak or be given twice.
Source:  Kubernetes' registry/core/service (storage, alloc, strategy).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubecore.errors import ApiStatusError, invalid
from kubecore.kinds.resource import Resource
from kubecore.schema.validation_services import (
    is_headless,
    needs_address,
    needs_node_ports,
    wrong_addresses,
)
from kubecore.storage.store import Store, StoredObject
from kubecore.values.addresses import family_of
from kubecore.values.invalid import Cause, InvalidObjectError
from kubecore.values.invalid import invalid as wrong

Object = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MASTER = ("default", "kubernetes")
# Of a larger range only this much is given out by itself; any address of it can be asked for.
MAX_GIVEN = 1 << 20
_ADDRESS_KEYS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
_OPENED = ("NodePort", "LoadBalancer")


@dataclass(frozen=True, slots=True)
class _Given:
    """What one state of a service has."""

    revision: int
    addresses: tuple[Any, ...]
    ports: tuple[int, ...]


class ServiceAddresses:
    """Allocates in `network` and `node_ports`; both ends of the latter belong to it."""

    def __init__(self, store: Store, network: Network, node_ports: tuple[int, int]) -> None:
        self._store, self._network, self._node_ports = store, network, node_ports
        self._known: dict[tuple[str, str], _Given] = {}

    @property
    def master(self) -> str:
        """The address of `default/kubernetes`: the first of the range."""
        return str(self._network.network_address + 1)

    def admit(self, resource: Resource, service: Object, old: Object | None) -> None:
        """Complete, in place, a service that has been checked. Raises:  ApiStatusError 422: taken, or not ours."""
        spec = service["spec"]
        others = self._others(service)
        causes: list[Cause] = []
        if spec["type"] != "ExternalName":
            causes += self._set_families(service)
        if needs_address(service) and not causes:
            causes += self._give_address(service, old, others)
        elif is_headless(service):
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
        if needs_node_ports(service):
            causes += self._give_ports(spec["ports"], others)
        if causes:
            name = service["metadata"]["name"]
            raise invalid(resource, InvalidObjectError(resource.group_kind, name, causes))

    def _others(self, service: Object) -> list[_Given]:
        """Return what the other services have; each state of a service is read once."""
        meta = service["metadata"]
        own = (meta.get("namespace", ""), meta["name"])
        known, self._known = self._known, {}
        for entry in self._store.upcoming("services"):
            key = (entry.namespace, entry.name)
            given = known.get(key)
            if given is None or given.revision != entry.revision:
                given = _given(entry)
            self._known[key] = given
        return [given for key, given in self._known.items() if key != own]

    def _set_families(self, service: Object) -> list[Cause]:
        """One family is all there is; who insists on another is refused."""
        spec, family = service["spec"], f"IPv{self._network.version}"
        for index, wanted in enumerate(spec.get("ipFamilies") or []):
            if wanted != family and not _is_open(service):
                rule = "not configured on this cluster"
                return [wrong(f"spec.ipFamilies[{index}]", wanted, rule)]
        policy = spec.get("ipFamilyPolicy")
        if policy == "RequireDualStack" and not _is_open(service):
            rule = "this cluster is not configured for dual-stack services"
            return [wrong("spec.ipFamilyPolicy", policy, rule)]
        if _is_open(service) and not policy:
            # As upstream: whoever fills in the endpoints may have both families.
            spec["ipFamilyPolicy"] = "RequireDualStack"
            spec.setdefault(
                "ipFamilies", sorted({family, "IPv4", "IPv6"}, key=lambda f: f != family)
            )
            return []
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        spec["ipFamilies"] = spec.get("ipFamilies") or [family]
        return []

    def _give_address(
        self, service: Object, old: Object | None, others: Iterable[_Given]
    ) -> list[Cause]:
        spec = service["spec"]
        asked = list(
            spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        )
        if asked and asked[0] and not _keeps(old, asked):
            problem = self._problem(service, asked[0], others)
            if problem:
                text = f"failed to allocate IP {asked[0]}: {problem}"
                return [wrong_addresses("spec.clusterIPs", asked, text)]
        elif not asked or not asked[0]:
            asked = [self._free_address(others)]
        spec["clusterIP"], spec["clusterIPs"] = asked[0], asked
        return []

    def _problem(self, service: Object, text: str, others: Iterable[_Given]) -> str:
        address, meta = ipaddress.ip_address(text), service["metadata"]
        if address not in self._network or not self._is_usable(address):
            return (
                f"the provided IP ({text}) is not in the valid range. The range of valid IPs is "
                f"{self._network}"
            )
        reserved = text == self.master and (meta.get("namespace"), meta["name"]) != MASTER
        return "provided IP is already allocated" if reserved or address in _taken(others) else ""

    def _is_usable(self, address: Any) -> bool:
        ends = {self._network.network_address}
        if self._network.version == 4:
            ends.add(self._network.broadcast_address)
        return address not in ends

    def _free_address(self, others: Iterable[_Given]) -> str:
        size = min(self._network.num_addresses, MAX_GIVEN)
        last = size - 2 if self._network.version == 4 else size - 1
        # The lower band is left for addresses that are asked for, as long as there is room above it.
        band = min(max(16, size // 16), 256) if size > 64 else 2
        base = int(self._network.network_address)
        taken = {int(address) - base for address in _taken(others)} | {1}
        number = _pick(taken, (band, last), (2, band - 1))
        if number is None:
            problem = "failed to allocate a serviceIP: range is full"
            raise ApiStatusError(500, "InternalError", f"Internal error occurred: {problem}")
        return str(self._network.network_address + number)

    def _give_ports(self, ports: list[Object], others: Iterable[_Given]) -> list[Cause]:
        first, last = self._node_ports
        taken = {port for other in others for port in other.ports}
        causes = []
        for index, port in enumerate(ports):
            number = port.get("nodePort")
            field = f"spec.ports[{index}].nodePort"
            if number and not first <= number <= last:
                rule = f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
                causes.append(wrong(field, number, rule))
            elif number in taken:
                causes.append(wrong(field, number, "provided port is already allocated"))
        own = {port["nodePort"] for port in ports if port.get("nodePort")}
        band = first + min(max(16, (last - first + 1) // 32), 128)
        for port in ports if not causes else ():
            if port.get("nodePort"):
                continue
            # One number serves a port of both protocols.
            twin = [p["nodePort"] for p in ports if p["port"] == port["port"] and p.get("nodePort")]
            given = twin[0] if twin else _pick(taken | own, (band, last), (first, band - 1))
            if given is None:
                problem = "failed to allocate a nodePort: range is full"
                raise ApiStatusError(500, "InternalError", f"Internal error occurred: {problem}")
            port["nodePort"] = given
            own.add(given)
        return causes


def carry_addresses(service: Object, old: Object) -> None:
    """Put back, in place, what a client's update of `old` left out, and drop what its new type has no use for.

    `service` has not been checked yet: what has not the right shape is left for the schema to refuse.
    """
    spec, before = service.get("spec"), old["spec"]
    ports = spec.get("ports") or [] if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(ports, list):
        return
    if not all(isinstance(port, dict) for port in ports):
        return
    kind, was = spec.get("type") or "ClusterIP", before.get("type") or "ClusterIP"
    _match_addresses(spec, before)
    if kind == "ExternalName":
        _drop_equal(spec, before, (*_ADDRESS_KEYS, "internalTrafficPolicy"))
    elif was != "ExternalName":
        spec.update({k: before[k] for k in _ADDRESS_KEYS if before.get(k) and not spec.get(k)})
    if was in _OPENED:
        _carry_node_ports(spec, ports, before, open_now=kind in _OPENED)


def _carry_node_ports(spec: Object, ports: list[Object], before: Object, *, open_now: bool) -> None:
    known = {
        (port.get("protocol"), port.get("port")): port["nodePort"]
        for port in before.get("ports") or ()
        if port.get("nodePort")
    }
    asked = {str(port.get("nodePort")) for port in ports}
    for port in ports:
        number = known.get((str(port.get("protocol") or "TCP"), _number(port.get("port"))))
        if not open_now and port.get("nodePort") in known.values():
            del port["nodePort"]
        elif open_now and number and not port.get("nodePort") and str(number) not in asked:
            port["nodePort"] = number
    if not open_now:
        _drop_equal(spec, before, ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _drop_equal(spec: Object, before: Object, keys: Iterable[str]) -> None:
    for key in keys:
        if spec.get(key) == before.get(key):
            spec.pop(key, None)


def _match_addresses(spec: Object, before: Object) -> None:
    """`clusterIP` is the first of `clusterIPs`: who changes one of the two means both."""
    one, many = spec.get("clusterIP"), spec.get("clusterIPs")
    if one != before.get("clusterIP") and many == before.get("clusterIPs") and many:
        spec["clusterIPs"] = [one] if one else None
    elif many != before.get("clusterIPs") and one == before.get("clusterIP") and one:
        spec["clusterIP"] = many[0] if isinstance(many, list) and many else None


def _keeps(old: Object | None, asked: list[str]) -> bool:
    return old is not None and old["spec"].get("clusterIPs") == asked


def _is_open(service: Object) -> bool:
    """Headless and without selector: its endpoints are somebody else's."""
    return is_headless(service) and not service["spec"].get("selector")


def _taken(others: Iterable[_Given]) -> set[Any]:
    return {address for other in others for address in other.addresses}


def _given(entry: StoredObject) -> _Given:
    spec = entry.parse()["spec"]
    # Older releases took any text for an address.
    ips = [ip for ip in spec.get("clusterIPs") or () if family_of(ip)]
    ports = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    return _Given(entry.revision, tuple(map(ipaddress.ip_address, ips)), tuple(ports))


def _pick(taken: set[int], *bands: tuple[int, int]) -> int | None:
    """Return a free number of the first band that has one, chosen at random as upstream."""
    for first, last in bands:
        size = last - first + 1
        start = random.randrange(size) if size > 0 else 0
        for step in range(max(size, 0)):
            number = first + (start + step) % size
            if number not in taken:
                return number
    return None
