"""Fields of a pod and its resources as text: what environments and downwardAPI volumes may ask for; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from edgecore.edged.containers.errors import MissingObjectError
from edgecore.edged.spec.podspec import Pod, ResourceFieldRef
from edgecore.edged.spec.quantity import ceil_of, parse_quantity
from edgecore.edged.spec.resources import amount

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_RESOURCES = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True)
class PodFacts:
    """What a pod can ask about itself and its node.

    Shapes:  allocatable: resource name -> amount, the default of a limit that is not set.
    """

    node_name: str
    host_ips: Sequence[str]
    pod_ips: Sequence[str]
    allocatable: Mapping[str, Decimal]


def pod_field(pod: Pod, path: str, facts: PodFacts) -> str:
    """Return the field at `path`.

    Raises:  ContainerStartError: no such field can be asked for.
    """
    meta = pod.metadata
    if match := _SUBSCRIPT.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    fields: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name,
        "metadata.namespace": lambda: meta.namespace,
        "metadata.uid": lambda: meta.uid,
        "metadata.labels": lambda: _lines(meta.labels),
        "metadata.annotations": lambda: _lines(meta.annotations),
        "spec.nodeName": lambda: facts.node_name,
        "spec.serviceAccountName": lambda: pod.spec.service_account_name,
        "status.hostIP": lambda: "".join(facts.host_ips[:1]),
        "status.hostIPs": lambda: ",".join(facts.host_ips),
        "status.podIP": lambda: "".join(facts.pod_ips[:1]),
        "status.podIPs": lambda: ",".join(facts.pod_ips),
    }
    if path not in fields:
        raise MissingObjectError(f"unsupported fieldPath: {path}")
    return fields[path]()


def resource_field(pod: Pod, default_container: str, ref: ResourceFieldRef, facts: PodFacts) -> str:
    """Return a request or limit as a whole number of `ref.divisor`, rounded up."""
    name = ref.container_name or default_container
    container = next((c for c in pod.spec.every_container if c.name == name), None)
    kind, _, resource = ref.resource.partition(".")
    if container is None:
        raise MissingObjectError(f"container {name} not found")
    if kind not in ("limits", "requests") or not _is_known(resource):
        raise MissingObjectError(f"unsupported container resource : {ref.resource}")
    value = amount(container, kind, resource)
    if not value and kind == "limits" and resource in _RESOURCES:  # no limit means the whole node
        value = facts.allocatable.get(resource, Decimal(0))
    try:
        divisor = parse_quantity(ref.divisor) or Decimal(1)
    except ValueError as exc:
        raise MissingObjectError(str(exc)) from exc
    return str(ceil_of(value / divisor))


def _is_known(resource: str) -> bool:
    return resource in _RESOURCES or resource.startswith("hugepages-")


def _lines(mapping: Mapping[str, str]) -> str:
    """Return `key="value"` lines, sorted, as the downward API writes maps."""
    return "\n".join(f"{k}={_quoted(v)}" for k, v in sorted(mapping.items()))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'
