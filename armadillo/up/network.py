"""The pod network of one state folder: a bridge and a subnet that nothing else on this machine has."""

from __future__ import annotations

import hashlib
import json
import struct
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from armadillo.containerd import PodNetwork
from armadillo.up.errors import UpError

POOL = IPv4Network("10.88.0.0/16")
ROUTES = Path("/proc/net/route")


def pod_network(path: Path, root: Path) -> PodNetwork:
    """Return the network remembered in `path`, or choose one for the state folder `root` and remember it.

    Raises:  UpError: every subnet of the pool is in use.
    """
    try:
        entry = json.loads(path.read_text())
        return PodNetwork(bridge=entry["bridge"], subnet=entry["subnet"])
    except (OSError, ValueError, KeyError, TypeError):
        network = _choose(root, ROUTES)
    path.write_text(json.dumps({"bridge": network.bridge, "subnet": network.subnet}) + "\n")
    return network


def _choose(root: Path, routes: Path) -> PodNetwork:
    mark = hashlib.sha256(str(root).encode()).hexdigest()
    taken = routed_networks(routes)
    # From a place of its own: two states that start at once should not race for the first free one.
    subnets = list(POOL.subnets(new_prefix=24))
    start = int(mark[:4], 16) % len(subnets)
    for subnet in subnets[start:] + subnets[:start]:
        if not any(subnet.overlaps(other) for other in taken):
            return PodNetwork(bridge=f"armd{mark[:8]}", subnet=str(subnet))
    raise UpError(f"every subnet of {POOL} is in use on this machine")


def routed_networks(routes: Path = ROUTES) -> list[IPv4Network]:
    """Return the IPv4 networks that this machine has routes to, the default route excepted."""
    networks = []
    for line in routes.read_text().splitlines()[1:]:
        fields = line.split()
        # Numbers in host order of the bytes on the wire: little-endian on every machine we run on.
        address, mask = (struct.pack("<I", int(fields[i], 16)) for i in (1, 7))
        if mask != b"\0\0\0\0":
            prefix = bin(int.from_bytes(mask)).count("1")
            networks.append(IPv4Network((IPv4Address(address), prefix), strict=False))
    return networks
