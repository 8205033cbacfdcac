"""Rules of services beyond types, with the API server's words; which addresses are free is decided elsewhere."""

from __future__ import annotations

from typing import Any

from kubecore.values.addresses import family_of
from kubecore.values.invalid import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from kubecore.values.names import label_problem, subdomain_problem

Object = dict[str, Any]
KINDS = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
MAX_AFFINITY_S = 86_400
_PROTOCOLS = ["SCTP", "TCP", "UDP"]
_RANGE = "must be between 1 and 65535, inclusive"
_CHOICES = {
    "sessionAffinity": ["ClientIP", "None"],
    "internalTrafficPolicy": ["Cluster", "Local"],
    "externalTrafficPolicy": ["Cluster", "Local"],
    "ipFamilyPolicy": ["PreferDualStack", "RequireDualStack", "SingleStack"],
}


def is_headless(service: Object) -> bool:
    """Return whether the service asks for no address."""
    ips = service["spec"].get("clusterIPs") or [service["spec"].get("clusterIP")]
    return bool(ips[0] == "None")


def needs_address(service: Object) -> bool:
    """Return whether the service has an address of its own."""
    return service["spec"].get("type") != "ExternalName" and not is_headless(service)


def needs_node_ports(service: Object) -> bool:
    """Return whether the service listens on every node."""
    spec = service["spec"]
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return bool(spec.get("type") == "NodePort")


def strings(values: list[str]) -> str:
    """Return a list of strings as Go's messages quote it."""
    return "[]string{" + ", ".join(f'"{value}"' for value in values) + "}"


def wrong_addresses(field: str, values: list[str], problem: str) -> Cause:
    """Return the cause for a list of addresses."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {strings(values)}: {problem}")


def check_service(service: Object) -> list[Cause]:
    """Return what is wrong with a decoded and defaulted service."""
    spec = service["spec"]
    causes: list[Cause] = []
    if spec["type"] not in KINDS:
        return [not_supported("spec.type", spec["type"], KINDS)]
    for key, known in _CHOICES.items():
        if spec.get(key) and spec[key] not in known:
            causes.append(not_supported(f"spec.{key}", spec[key], known))
    causes += _check_ports(service)
    causes += _check_affinity(spec)
    causes += _check_addresses(service)
    if spec["type"] == "ExternalName":
        name = str(spec.get("externalName") or "").removesuffix(".")
        if not name:
            causes.append(required("spec.externalName"))
        elif problem := subdomain_problem(name):
            causes.append(invalid("spec.externalName", spec["externalName"], problem))
    return causes


def _check_ports(service: Object) -> list[Cause]:
    spec = service["spec"]
    ports = spec.get("ports") or []
    causes: list[Cause] = []
    if not ports and spec["type"] != "ExternalName" and not is_headless(service):
        causes.append(required("spec.ports"))
    names: set[str] = set()
    seen: set[tuple[object, ...]] = set()
    node_ports: set[tuple[object, ...]] = set()
    for index, port in enumerate(ports):
        field, name, protocol = f"spec.ports[{index}]", port.get("name", ""), port["protocol"]
        if name and (problem := label_problem(name)):
            causes.append(invalid(f"{field}.name", name, problem))
        elif name and name in names:
            causes.append(duplicate(f"{field}.name", name))
        elif not name and len(ports) > 1:
            causes.append(required(f"{field}.name"))
        names.add(name)
        if not 1 <= port.get("port", 0) <= 65535:
            causes.append(invalid(f"{field}.port", port.get("port", 0), _RANGE))
        if protocol not in _PROTOCOLS:
            causes.append(not_supported(f"{field}.protocol", protocol, _PROTOCOLS))
        causes += _check_target(port.get("targetPort"), f"{field}.targetPort")
        key = (protocol, port.get("port"))
        if key in seen:
            causes.append(duplicate(field, {"protocol": protocol, "port": port.get("port")}))
        seen.add(key)
        causes += _check_node_port(spec["type"], port, field, node_ports)
    return causes


def _check_target(target: Any, field: str) -> list[Cause]:
    if isinstance(target, int) and not 1 <= target <= 65535:
        return [invalid(field, target, _RANGE)]
    if isinstance(target, str):
        if len(target) > 15:
            return [invalid(field, target, "must be no more than 15 characters")]
        if problem := label_problem(target):
            return [invalid(field, target, problem)]
        if not any(c.isalpha() for c in target):
            return [invalid(field, target, "must contain at least one letter (a-z)")]
    return []


def _check_node_port(
    kind: str, port: Object, field: str, taken: set[tuple[object, ...]]
) -> list[Cause]:
    number = port.get("nodePort")
    if not number:
        return []
    if kind in ("ClusterIP", "ExternalName"):
        return [forbidden(f"{field}.nodePort", f"may not be used when `type` is '{kind}'")]
    key = (port["protocol"], number)
    if key in taken:
        return [duplicate(f"{field}.nodePort", number)]
    taken.add(key)
    return []


def _check_affinity(spec: Object) -> list[Cause]:
    config = spec.get("sessionAffinityConfig") or {}
    seconds = (config.get("clientIP") or {}).get("timeoutSeconds")
    if seconds is None or 0 < seconds <= MAX_AFFINITY_S:
        return []
    field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    return [invalid(field, seconds, f"must be greater than 0 and less than {MAX_AFFINITY_S}")]


def _check_addresses(service: Object) -> list[Cause]:
    spec = service["spec"]
    ip, ips = spec.get("clusterIP") or "", list(spec.get("clusterIPs") or [])
    if spec["type"] == "ExternalName":
        problem = "may not be set for ExternalName services"
        return [forbidden("spec.clusterIPs", problem)] if ips or ip else []
    causes: list[Cause] = []
    if ips and ip and ip != ips[0]:
        causes.append(wrong_addresses("spec.clusterIPs", ips, "must match `clusterIP`"))
    if len(ips) > 2:
        causes.append(wrong_addresses("spec.clusterIPs", ips, "may only hold up to 2 values"))
    for index, one in enumerate(ips or [ip]):
        field = f"spec.clusterIPs[{index}]"
        if one != "None":
            causes += _check_address(one, field) if one else []
        elif len(ips) > 1 or spec["type"] != "ClusterIP":
            problem = f"may not be set to 'None' for {spec['type']} services"
            causes.append(invalid(field, one, problem))
    for index, one in enumerate(spec.get("externalIPs") or []):
        causes += _check_address(one, f"spec.externalIPs[{index}]")
    return causes


def _check_address(text: str, field: str) -> list[Cause]:
    if family_of(text):
        return []
    return [invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]


def check_endpoints(endpoints: Object) -> list[Cause]:
    """Return what is wrong with decoded Endpoints."""
    causes: list[Cause] = []
    for index, subset in enumerate(endpoints.get("subsets") or []):
        field = f"subsets[{index}]"
        for key in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(key) or []):
                causes += _check_address(address.get("ip", ""), f"{field}.{key}[{number}].ip")
        if not (subset.get("addresses") or subset.get("notReadyAddresses")):
            rule = "must specify `addresses` or `notReadyAddresses`"
            causes.append(required(field, rule))
        for number, port in enumerate(subset.get("ports") or []):
            if not 1 <= port.get("port", 0) <= 65535:
                where = f"{field}.ports[{number}].port"
                causes.append(invalid(where, port.get("port", 0), _RANGE))
    return causes


def service_update(service: Object, old: Object) -> list[Cause]:
    """Return what an update changes that stays while a service has an address."""
    if "ExternalName" in (service["spec"]["type"], old["spec"].get("type")):
        return []
    if is_headless(service) and is_headless(old):
        return []
    now, before = _ips(service), _ips(old)
    if len(now) < len(before):
        return [wrong_addresses("spec.clusterIPs[0]", now, "primary clusterIP can not be unset")]
    return [
        wrong_addresses(f"spec.clusterIPs[{index}]", now, "may not change once set")
        for index, ip in enumerate(before)
        if ip and now[index] != ip
    ]


def _ips(service: Object) -> list[str]:
    spec = service["spec"]
    return list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
