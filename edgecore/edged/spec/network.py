"""Ports, names and resolvers of a pod."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import field

from edgecore.edged.spec.parts import Part


class Port(Part, frozen=True):
    """A port of a container; only `host_port` changes anything on the node."""

    container_port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    host_ip: str = field(default="", name="hostIP")
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    name: str = ""


class HostAlias(Part, frozen=True):
    """One more line of /etc/hosts."""

    ip: str
    hostnames: tuple[str, ...] = ()


class DnsOption(Part, frozen=True):
    """One option of resolv.conf."""

    name: str
    value: str = ""


class DnsConfig(Part, frozen=True):
    """Contents of resolv.conf."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()
