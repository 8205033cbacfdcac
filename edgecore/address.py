"""The address that this machine is reached by."""

from __future__ import annotations

import ipaddress
import socket

# TEST-NET-1 (RFC 5737): never on any network, so the kernel answers with the default route. Nothing is sent.
_ANYWHERE = "192.0.2.1"


def node_address(server: str) -> str:
    """Return the local address on the route to `server` (host:port), or on the default route, or loopback.

    A UDP socket is connected, which asks the kernel for a route and sends nothing.
    """
    host = server.rpartition(":")[0].strip("[]")
    for target in (host, _ANYWHERE):
        address = _route_to(target)
        if address and not ipaddress.ip_address(address).is_loopback:
            return address
    return "127.0.0.1"


def _route_to(host: str) -> str:
    try:
        # A name would have to be resolved, and boot never waits for the network.
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return ""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
