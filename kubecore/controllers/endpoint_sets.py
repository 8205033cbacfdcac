"""Which pods stand behind a service, as Endpoints and as EndpointSlices; pure.

Source:  Kubernetes' endpoint and endpointslice controllers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kubecore.values.addresses import family_of

Object = dict[str, Any]
Ports = tuple[tuple[str, int, str, str], ...]  # (name, port, protocol, appProtocol), sorted

MANAGED_BY = "endpointslice-controller.k8s.io"
MIRRORED_BY = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
SERVICE_NAME = "kubernetes.io/service-name"
MANAGER_LABEL = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL = "service.kubernetes.io/headless"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
# Upstream's limits.
MAX_ADDRESSES = 1000
MAX_SLICE = 100


@dataclass(frozen=True)
class Backend:
    """One address of one pod behind a service."""

    ip: str
    pod: str
    uid: str
    node: str
    hostname: str
    ready: bool
    serving: bool
    terminating: bool
    ports: Ports

    @property
    def family(self) -> str:
        """IPv4 or IPv6."""
        return family_of(self.ip)


def shrink_pod(pod: Object) -> Object:
    """Return what this module reads of a pod: clusters have many, and each is kept."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    conditions = [c for c in status.get("conditions") or () if c.get("type") == "Ready"]
    return {
        "metadata": {k: meta[k] for k in _POD_META if k in meta},
        "spec": {k: spec[k] for k in ("nodeName", "hostname", "subdomain") if k in spec}
        | {"ports": [p for c in spec.get("containers") or () for p in c.get("ports") or ()]},
        "status": {
            "phase": status.get("phase"),
            "ips": [ip["ip"] for ip in status.get("podIPs") or () if ip.get("ip")]
            or [ip for ip in [status.get("podIP")] if ip],
            "ready": bool(conditions) and conditions[0].get("status") == "True",
        },
    }


_POD_META = ("namespace", "name", "uid", "labels", "deletionTimestamp")


def selects(service: Object, pod: Object) -> bool:
    """Return whether the service's selector takes a shrunk pod's labels."""
    labels = pod["metadata"].get("labels") or {}
    selector = service["spec"].get("selector") or {}
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def has_selector(service: Object) -> bool:
    """Return whether its endpoints are kept here."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def backends(service: Object, pods: Iterable[Object]) -> list[Backend]:
    """Return the addresses behind `service`, by pod name. Shapes:  pods: shrunk, those it selects."""
    found = [one for pod in pods for one in _of_pod(service, pod)]
    return sorted(found, key=lambda one: (one.pod, one.ip))


def _of_pod(service: Object, pod: Object) -> Iterator[Backend]:
    spec, meta, status = pod["spec"], pod["metadata"], pod["status"]
    if status["phase"] in ("Succeeded", "Failed") or not status["ips"]:
        return
    early = bool(service["spec"].get("publishNotReadyAddresses"))
    terminating = "deletionTimestamp" in meta
    in_domain = spec.get("subdomain") == service["metadata"]["name"]
    families = service["spec"].get("ipFamilies") or []
    for ip in status["ips"]:
        family = family_of(ip)
        if not family or (families and family not in families):
            continue
        yield Backend(
            ip,
            meta["name"],
            meta.get("uid", ""),
            spec.get("nodeName", ""),
            spec.get("hostname", "") if in_domain else "",
            ready=early or (status["ready"] and not terminating),
            serving=status["ready"] or early,
            terminating=terminating,
            ports=_ports(service, pod),
        )


def _ports(service: Object, pod: Object) -> Ports:
    """Return the service's ports as the pod has them; one whose name no container has is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        target, protocol = port.get("targetPort"), port.get("protocol", "TCP")
        if isinstance(target, str):
            named = [
                p["containerPort"]
                for p in pod["spec"]["ports"]
                if p.get("name") == target and p.get("protocol", "TCP") == protocol
            ]
            target = named[0] if named else None
        if target is not None:
            found.append((port.get("name", ""), target, protocol, port.get("appProtocol", "")))
    return tuple(sorted(found))


def endpoints_of(service: Object, found: Iterable[Backend]) -> Object:
    """Return the Endpoints of `service`, without what the API adds."""
    early = bool(service["spec"].get("publishNotReadyAddresses"))
    wanted_family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    shown = [b for b in found if (early or not b.terminating) and b.family == wanted_family]
    shown = [b for b in shown if b.ports or not service["spec"].get("ports")]
    over = len(shown) > MAX_ADDRESSES
    # Ready ones first, when there are too many.
    shown = sorted(shown, key=lambda b: not b.ready)[:MAX_ADDRESSES] if over else shown
    subsets = []
    for ports in sorted({b.ports for b in shown}):
        same = [b for b in shown if b.ports == ports]
        subset: Object = {}
        if ready := [_address(service, b) for b in same if b.ready]:
            subset["addresses"] = ready
        if waiting := [_address(service, b) for b in same if not b.ready]:
            subset["notReadyAddresses"] = waiting
        if ports:
            subset["ports"] = [
                {k: v for k, v in port.items() if v != ""} for port in _shown_ports(ports)
            ]
        subsets.append(subset)
    labels = dict(service["metadata"].get("labels") or {})
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    metadata: Object = {"name": service["metadata"]["name"]}
    if labels:
        metadata["labels"] = labels
    if over:
        metadata["annotations"] = {OVER_CAPACITY: "truncated"}
    return {"metadata": metadata, **({"subsets": subsets} if subsets else {})}


def slices_of(service: Object, found: Iterable[Backend]) -> list[Object]:
    """Return the EndpointSlices of `service` without names: one per family, ports and hundred addresses."""
    groups: dict[tuple[str, Ports], list[Backend]] = {}
    for backend in found:
        if backend.ports or not service["spec"].get("ports"):
            groups.setdefault((backend.family, backend.ports), []).append(backend)
    if not groups:  # as upstream: an empty slice says that there is nobody
        groups[(service["spec"].get("ipFamilies") or ["IPv4"])[0], ()] = []
    return [
        _slice(service, family, ports, members[start : start + MAX_SLICE])
        for (family, ports), members in sorted(groups.items())
        for start in range(0, max(len(members), 1), MAX_SLICE)
    ]


def mirrored_of(endpoints: Object) -> list[Object]:
    """Return the slices that say what somebody's own Endpoints say; none if they are not to be mirrored."""
    meta = endpoints["metadata"]
    labels = dict(meta.get("labels") or {})
    if labels.get(SKIP_MIRROR) == "true":
        return []
    labels |= {SERVICE_NAME: meta["name"], MANAGER_LABEL: MIRRORED_BY}
    owner = {"apiVersion": "v1", "kind": "Endpoints", "name": meta["name"], "uid": meta["uid"]}
    owner |= {"controller": True, "blockOwnerDeletion": True}
    made = []
    for subset in endpoints.get("subsets") or ():
        members: dict[str, list[Object]] = {}
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(key) or ():
                if family := family_of(str(address.get("ip"))):
                    members.setdefault(family, []).append(_mirrored(address, ready=ready))
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()]
        for family, found in sorted(members.items()):
            for start in range(0, len(found), MAX_SLICE):
                part = found[start : start + MAX_SLICE]
                metadata = {
                    "generateName": f"{meta['name']}-",
                    "labels": labels,
                    "ownerReferences": [owner],
                }
                made.append(
                    {
                        "metadata": metadata,
                        "addressType": family,
                        "endpoints": part,
                        "ports": ports,
                    }
                )
    return made


def _mirrored(address: Object, *, ready: bool) -> Object:
    kept = {k: address[k] for k in ("hostname", "nodeName", "targetRef") if address.get(k)}
    return {"addresses": [address["ip"]], "conditions": {"ready": ready}, **kept}


def _slice(service: Object, family: str, ports: Ports, members: list[Backend]) -> Object:
    meta = service["metadata"]
    labels = {**(meta.get("labels") or {}), SERVICE_NAME: meta["name"], MANAGER_LABEL: MANAGED_BY}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS_LABEL] = ""
    owner = {"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"]}
    owner |= {"controller": True, "blockOwnerDeletion": True}
    return {
        "metadata": {
            "generateName": f"{meta['name']}-",
            "labels": labels,
            "ownerReferences": [owner],
        },
        "addressType": family,
        "endpoints": [_endpoint(service, member) for member in members],
        "ports": _shown_ports(ports),
    }


def _endpoint(service: Object, member: Backend) -> Object:
    endpoint: Object = {
        "addresses": [member.ip],
        "conditions": {
            "ready": member.ready,
            "serving": member.serving,
            "terminating": member.terminating,
        },
        "targetRef": _target(service, member),
    }
    if member.hostname:
        endpoint["hostname"] = member.hostname
    if member.node:
        endpoint["nodeName"] = member.node
    return endpoint


def _address(service: Object, backend: Backend) -> Object:
    address: Object = {"ip": backend.ip, "targetRef": _target(service, backend)}
    if backend.hostname:
        address["hostname"] = backend.hostname
    if backend.node:
        address["nodeName"] = backend.node
    return address


def _target(service: Object, backend: Backend) -> Object:
    namespace = service["metadata"]["namespace"]
    return {"kind": "Pod", "namespace": namespace, "name": backend.pod, "uid": backend.uid}


def _shown_ports(ports: Ports) -> list[Object]:
    return [
        {"name": name, "port": port, "protocol": protocol}
        | ({"appProtocol": application} if application else {})
        for name, port, protocol, application in ports
    ]
