"""Columns and rows of the built-in kinds other than pods, as `kubectl get` shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubecore.kinds.resource import Column
from kubecore.printing.durations import age
from kubecore.printing.pods import NONE, POD_COLUMNS, pod_cells
from kubecore.printing.policies import (
    endpoint_slice_cells,
    priority_class_cells,
    quota_cells,
    runtime_class_cells,
    signing_request_cells,
)

UNKNOWN = "<unknown>"
UNSET = "<unset>"
# kubectl's own limit: beyond this an endpoints row says how many more there are.
MAX_SHOWN_ENDPOINTS = 3

Cells = Callable[[dict[str, Any], float], list[Any]]


@dataclass(frozen=True)
class Printer:
    """The columns of a kind and what fills them: (object, now in Unix seconds) to cells."""

    columns: tuple[Column, ...]
    cells: Cells


def _name(obj: dict[str, Any]) -> str:
    return str(obj["metadata"].get("name", ""))


def _age(obj: dict[str, Any], now_s: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now_s)


def _columns(*names: str, wide: tuple[str, ...] = ()) -> tuple[Column, ...]:
    shown = [Column(name, format="name" if name == "Name" else "") for name in names]
    return (*shown, *(Column(name, priority=1) for name in wide))


def _node(node: dict[str, Any], now_s: float) -> list[Any]:
    status = node.get("status", {})
    info = status.get("nodeInfo", {})
    return [
        _name(node),
        _node_status(node),
        _roles(node["metadata"].get("labels") or {}),
        _age(node, now_s),
        info.get("kubeletVersion", ""),
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_status(node: dict[str, Any]) -> str:
    words = [
        "Ready" if condition.get("status") == "True" else "NotReady"
        for condition in node.get("status", {}).get("conditions") or []
        if condition.get("type") == "Ready"
    ] or ["Unknown"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(labels: dict[str, str]) -> str:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}
    if role := labels.get("kubernetes.io/role"):
        roles.add(role)
    return ",".join(sorted(role for role in roles if role)) or NONE


def _address(status: dict[str, Any], kind: str) -> str:
    addresses = status.get("addresses") or []
    return next((a["address"] for a in addresses if a.get("type") == kind), NONE)


def _namespace(namespace: dict[str, Any], now_s: float) -> list[Any]:
    phase = namespace.get("status", {}).get("phase", "")
    return [_name(namespace), phase, _age(namespace, now_s)]


def _config_map(obj: dict[str, Any], now_s: float) -> list[Any]:
    count = len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
    return [_name(obj), count, _age(obj, now_s)]


def _secret(obj: dict[str, Any], now_s: float) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or {}), _age(obj, now_s)]


def _service_account(obj: dict[str, Any], now_s: float) -> list[Any]:
    return [_name(obj), len(obj.get("secrets") or []), _age(obj, now_s)]


def _event(event: dict[str, Any], now_s: float) -> list[Any]:
    series = event.get("series") or {}
    about = event.get("involvedObject") or {}
    source = event.get("source") or {}
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    component = source.get("component") or event.get("reportingComponent", "")
    return [
        age(last, now_s),
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        ", ".join(part for part in (component, source.get("host", "")) if part),
        event.get("message", "").strip(),
        age(first, now_s),
        series.get("count") or event.get("count") or 1,
        _name(event),
    ]


def _service(service: dict[str, Any], now_s: float) -> list[Any]:
    spec = service.get("spec", {})
    selector = spec.get("selector") or {}
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP") or NONE]
    return [
        _name(service),
        spec.get("type", ""),
        addresses[0],
        _external_ip(service),
        ",".join(_port(port) for port in spec.get("ports") or []) or NONE,
        _age(service, now_s),
        ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or NONE,
    ]


def _external_ip(service: dict[str, Any]) -> str:
    spec = service.get("spec", {})
    external = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName") or NONE)
        case "LoadBalancer":
            balancer = service.get("status", {}).get("loadBalancer") or {}
            ingress = [i.get("ip") or i.get("hostname", "") for i in balancer.get("ingress") or []]
            return ",".join([*ingress, *external]) or "<pending>"
    return ",".join(external) or NONE


def _port(port: dict[str, Any]) -> str:
    number = f"{port['port']}:{port['nodePort']}" if port.get("nodePort") else str(port["port"])
    return f"{number}/{port.get('protocol', 'TCP')}"


def _endpoints(obj: dict[str, Any], now_s: float) -> list[Any]:
    shown: list[str] = []
    for subset in obj.get("subsets") or []:
        addresses = [a.get("ip", "") for a in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        shown += [f"{ip}:{port['port']}" for port in ports for ip in addresses] or addresses
    text = ",".join(shown[:MAX_SHOWN_ENDPOINTS]) or NONE
    if len(shown) > MAX_SHOWN_ENDPOINTS:
        text += f" + {len(shown) - MAX_SHOWN_ENDPOINTS} more..."
    return [_name(obj), text, _age(obj, now_s)]


def _lease(lease: dict[str, Any], now_s: float) -> list[Any]:
    return [_name(lease), lease.get("spec", {}).get("holderIdentity", ""), _age(lease, now_s)]


def _created(obj: dict[str, Any], _now_s: float) -> list[Any]:
    return [_name(obj), obj["metadata"].get("creationTimestamp", "")]


def _binding(binding: dict[str, Any], now_s: float) -> list[Any]:
    role = binding.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in binding.get("subjects") or []:
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        by_kind.setdefault(subject.get("kind", ""), []).append(name)
    return [
        _name(binding),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        _age(binding, now_s),
        ", ".join(by_kind["User"]),
        ", ".join(by_kind["Group"]),
        ", ".join(by_kind["ServiceAccount"]),
    ]


_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _volume(volume: dict[str, Any], now_s: float) -> list[Any]:
    spec, status = volume.get("spec", {}), volume.get("status", {})
    claim = spec.get("claimRef")
    ending = "deletionTimestamp" in volume["metadata"]
    return [
        _name(volume),
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if ending else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        UNSET,
        status.get("reason", ""),
        _age(volume, now_s),
        spec.get("volumeMode", UNSET),
    ]


def _claim(claim: dict[str, Any], now_s: float) -> list[Any]:
    spec, status = claim.get("spec", {}), claim.get("status", {})
    ending = "deletionTimestamp" in claim["metadata"]
    bound = bool(spec.get("volumeName"))
    return [
        _name(claim),
        "Terminating" if ending else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if bound else "",
        _modes(status) if bound else "",
        spec.get("storageClassName", ""),
        UNSET,
        _age(claim, now_s),
        spec.get("volumeMode", UNSET),
    ]


def _modes(part: dict[str, Any]) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in part.get("accessModes") or ())


def _storage_class(obj: dict[str, Any], now_s: float) -> list[Any]:
    annotations = obj["metadata"].get("annotations") or {}
    default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        _name(obj) + (" (default)" if default else ""),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        _age(obj, now_s),
    ]


_VOLUME_COLUMNS = (
    *_columns("Name", "Capacity", "Access Modes", "Reclaim Policy", "Status", "Claim"),
    *_columns("StorageClass", "VolumeAttributesClass", "Reason", "Age", wide=("VolumeMode",)),
)
_CLAIM_COLUMNS = (
    *_columns("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass"),
    *_columns("VolumeAttributesClass", "Age", wide=("VolumeMode",)),
)
_CLASS_COLUMNS = (
    *_columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode"),
    Column("AllowVolumeExpansion", "boolean"),
    Column("Age"),
)
_EVENT_COLUMNS = (
    *_columns("Last Seen", "Type", "Reason", "Object"),
    *(Column(name, priority=1) for name in ("Subobject", "Source")),
    Column("Message"),
    Column("First Seen", priority=1),
    Column("Count", "integer", priority=1),
    Column("Name", format="name", priority=1),
)
_PRIORITY_COLUMNS = (
    Column("Name", format="name"),
    Column("Value", "integer"),
    Column("Global-Default", "boolean"),
    *_columns("Age", "PreemptionPolicy"),
)
_BINDING = Printer(
    _columns("Name", "Role", "Age", wide=("Users", "Groups", "ServiceAccounts")), _binding
)
_CREATED = Printer(_columns("Name", "Created At"), _created)
_NODE_WIDE = ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")

PRINTERS: dict[str, Printer] = {
    "pods": Printer(POD_COLUMNS, pod_cells),
    "nodes": Printer(_columns("Name", "Status", "Roles", "Age", "Version", wide=_NODE_WIDE), _node),
    "namespaces": Printer(_columns("Name", "Status", "Age"), _namespace),
    "configmaps": Printer(_columns("Name", "Data", "Age"), _config_map),
    "secrets": Printer(_columns("Name", "Type", "Data", "Age"), _secret),
    "serviceaccounts": Printer(_columns("Name", "Secrets", "Age"), _service_account),
    "events": Printer(_EVENT_COLUMNS, _event),
    "services": Printer(
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", wide=("Selector",)),
        _service,
    ),
    "persistentvolumes": Printer(_VOLUME_COLUMNS, _volume),
    "persistentvolumeclaims": Printer(_CLAIM_COLUMNS, _claim),
    "storageclasses.storage.k8s.io": Printer(_CLASS_COLUMNS, _storage_class),
    "endpoints": Printer(_columns("Name", "Endpoints", "Age"), _endpoints),
    "endpointslices.discovery.k8s.io": Printer(
        _columns("Name", "AddressType", "Ports", "Endpoints", "Age"), endpoint_slice_cells
    ),
    "limitranges": _CREATED,
    "resourcequotas": Printer(_columns("Name", "Request", "Limit", "Age"), quota_cells),
    "runtimeclasses.node.k8s.io": Printer(_columns("Name", "Handler", "Age"), runtime_class_cells),
    "priorityclasses.scheduling.k8s.io": Printer(_PRIORITY_COLUMNS, priority_class_cells),
    "certificatesigningrequests.certificates.k8s.io": Printer(
        _columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"),
        signing_request_cells,
    ),
    "leases.coordination.k8s.io": Printer(_columns("Name", "Holder", "Age"), _lease),
    "customresourcedefinitions.apiextensions.k8s.io": _CREATED,
    "roles.rbac.authorization.k8s.io": _CREATED,
    "clusterroles.rbac.authorization.k8s.io": _CREATED,
    "rolebindings.rbac.authorization.k8s.io": _BINDING,
    "clusterrolebindings.rbac.authorization.k8s.io": _BINDING,
}
