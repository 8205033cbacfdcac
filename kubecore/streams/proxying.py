"""What `proxy` below a pod, a service or a node is about, and what a proxy changes of the requests; pure.

Refusals are in upstream's words.
Source:  Kubernetes' registry/core/{pod,service,node} ResourceLocation and apimachinery's proxy transport.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yarl import URL

from kubecore.errors import ApiStatusError, bad_request

Object = dict[str, Any]
SCHEMES = ("http", "https")
MAX_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Headers that belong to one connection, or tell who the client is.
_NOT_PROXIED = frozenset(
    {
        *("authorization", "connection", "content-length", "expect", "keep-alive"),
        *("proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"),
        "upgrade",
    }
)
# Cookies and origins of the API server's address are not the application's to allow.
_CROSS_ORIGIN = "access-control-"


@dataclass(frozen=True)
class ProxyName:
    """`NAME`, `NAME:PORT` or `SCHEME:NAME:PORT` of a path; empty parts were not given."""

    scheme: str
    name: str
    port: str


@dataclass(frozen=True)
class PodPort:
    """A port of a pod, and how to talk to it."""

    pod: str
    port: int
    scheme: str


def unavailable(message: str) -> ApiStatusError:
    """Return a 503: what is behind the proxy cannot be reached."""
    return ApiStatusError(503, "ServiceUnavailable", message)


def parse_name(text: str, what: str) -> ProxyName:
    """Return the parts of a name. Raises:  ApiStatusError 400: there is no such form."""
    parts = text.split(":")
    if len(parts) == 1:
        return ProxyName("", text, "")
    if len(parts) == 2 and parts[0]:
        return ProxyName("", *parts)
    if len(parts) == 3 and parts[0] in ("", *SCHEMES) and parts[1]:
        return ProxyName(*parts)
    raise bad_request(f"invalid {what} request {text[:300]!r}".replace("'", '"'))


def pod_port(pod: Object, wanted: ProxyName) -> PodPort:
    """Return which port of `pod` is meant: the one named, its first, or the scheme's. Raises:  ApiStatusError."""
    scheme = wanted.scheme or "http"
    name = pod["metadata"]["name"]
    if wanted.port:
        return PodPort(name, _port(wanted.port), scheme)
    declared = [
        port["containerPort"]
        for container in pod["spec"].get("containers") or ()
        for port in (container.get("ports") or ())[:1]
    ]
    return PodPort(name, declared[0] if declared else _DEFAULT_PORTS[scheme], scheme)


def service_port(
    service: Object,
    endpoints: Object | None,
    wanted: ProxyName,
    choose: Callable[[list[PodPort]], PodPort] = random.choice,
) -> PodPort:
    """Return one ready pod behind `service`. Raises:  ApiStatusError 503: none."""
    name, ports = service["metadata"]["name"], service["spec"].get("ports") or []
    port_name = wanted.port
    if port_name.isascii() and port_name.isdigit():
        named = [p.get("name") or "" for p in ports if p["port"] == int(port_name[:6])]
        if not named:
            raise unavailable(f'no service port {port_name[:6]} found for service "{name}"')
        port_name = named[0]
    elif not port_name and len(ports) == 1:
        port_name = ports[0].get("name") or ""
    found = [
        PodPort(target["name"], port["port"], wanted.scheme or "http")
        for subset in (endpoints or {}).get("subsets") or ()
        for port in subset.get("ports") or ()
        if (port.get("name") or "") == port_name
        for address in subset.get("addresses") or ()
        if (target := address.get("targetRef") or {}).get("kind") == "Pod"
    ]
    if not found:
        raise unavailable(f'no endpoints available for service "{wanted_text(wanted)}"')
    return choose(found)


def wanted_text(wanted: ProxyName) -> str:
    """Return `wanted` as it stood in the path."""
    if wanted.scheme:
        return f"{wanted.scheme}:{wanted.name}:{wanted.port}"
    return f"{wanted.name}:{wanted.port}" if wanted.port else wanted.name


def passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that are not about one connection or the client's rights."""
    pairs = list(headers)
    named = {
        one.strip().lower()
        for name, value in pairs
        if name.lower() == "connection"
        for one in value.split(",")
    }
    return [(n, v) for n, v in pairs if n.lower() not in _NOT_PROXIED | named]


def answered(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of an application's answer that a client of the API may see."""
    return [(n, v) for n, v in passed_on(headers) if not n.lower().startswith(_CROSS_ORIGIN)]


def forwarded_headers(host: str, prefix: str, tail: str) -> Mapping[str, str]:
    """Return the headers by which an application knows where its clients find it."""
    return {
        "X-Forwarded-Host": host,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Uri": prefix + tail,
    }


def moved(location: str, prefix: str, host: str, sources: Iterable[str]) -> str:
    """Return a redirect's Location as the client has to follow it: below `prefix` if it stays in the application.

    Shapes:  sources: host and port by which the application may call itself.
    """
    try:
        url = URL(location, encoded=True)
    except ValueError:
        return location
    if url.raw_authority and url.raw_authority not in (host, *sources):
        return location
    if not url.raw_path.startswith("/") or location.startswith("//"):
        return location
    tail = location.partition(url.raw_authority)[2] if url.raw_authority else location
    if not tail.startswith("/"):
        tail = "/" + tail
    path = tail if tail.startswith(prefix) else prefix + tail
    return f"https://{host}{path}" if url.raw_authority else path


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:6]) <= MAX_PORT:
        raise bad_request(f'invalid port "{text[:40]}": must be a number from 1 to {MAX_PORT}')
    return int(text[:6])
