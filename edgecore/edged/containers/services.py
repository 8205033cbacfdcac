"""The environment variables that tell containers of the services of their namespace; pure.

Source: Kubernetes' "Service: environment variables", and the variables of Docker's links that it keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import msgspec

# Every pod is told of the API server, whatever `enableServiceLinks` says.
MASTER = ("default", "kubernetes")


class ServicePort(msgspec.Struct):
    """A port of a service."""

    port: int = 0
    name: str = ""
    protocol: str = "TCP"


class _Spec(msgspec.Struct, rename="camel"):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: tuple[ServicePort, ...] = ()


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""


class Service(msgspec.Struct):
    """The part of a Service that variables are made of."""

    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)

    @property
    def has_address(self) -> bool:
        """Return whether the service has an address of its own: headless and external ones have not."""
        return self.spec.cluster_ip not in ("", "None") and bool(self.spec.ports)


def service_variables(
    services: Iterable[Service], namespace: str, *, linked: bool
) -> dict[str, str]:
    """Return the variables of a pod in `namespace`.

    Shapes:  linked: the pod's `enableServiceLinks`; without it only those of default/kubernetes.
    """
    chosen: dict[str, Service] = {}
    for service in services:
        meta = service.metadata
        if not service.has_address:
            continue
        if (meta.namespace, meta.name) == MASTER:
            chosen.setdefault(meta.name, service)  # the namespace's own of that name goes first
        elif meta.namespace == namespace and linked:
            chosen[meta.name] = service
    variables: dict[str, str] = {}
    for _, service in sorted(chosen.items()):
        variables.update(_of_service(service))
    return variables


def _of_service(service: Service) -> Iterator[tuple[str, str]]:
    prefix, address = _variable(service.metadata.name), service.spec.cluster_ip
    ports = service.spec.ports
    yield f"{prefix}_SERVICE_HOST", address
    yield f"{prefix}_SERVICE_PORT", str(ports[0].port)
    for port in ports:
        if port.name:
            yield f"{prefix}_SERVICE_PORT_{_variable(port.name)}", str(port.port)
    for index, port in enumerate(ports):
        protocol = (port.protocol or "TCP").lower()
        url = f"{protocol}://{_host_port(address, port.port)}"
        if index == 0:
            yield f"{prefix}_PORT", url
        start = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        yield start, url
        yield f"{start}_PROTO", protocol
        yield f"{start}_PORT", str(port.port)
        yield f"{start}_ADDR", address


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _host_port(address: str, port: int) -> str:
    try:
        bracketed = ip_address(address).version == 6
    except ValueError:
        bracketed = False
    return f"[{address}]:{port}" if bracketed else f"{address}:{port}"
