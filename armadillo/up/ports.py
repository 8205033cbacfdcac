"""Ports: chosen free at first start and remembered, so that a kubeconfig stays valid."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from armadillo.up.errors import UpError
from corekit.errors import ConfigError

# Below the kernel's ephemeral range (32768-60999): no outgoing connection can sit on a remembered port.
FIRST_PORT, LAST_PORT = 20_000, 32_000


def claim_ports(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Return a port on loopback for each of `names`: the remembered one, or a new one, written to `path`.

    Raises:  ConfigError: the file is damaged. UpError: a remembered port is taken.
    """
    ports = _remembered(path)
    for name in names:
        if name in ports:
            if not is_free(ports[name]):
                raise UpError(
                    f"port {ports[name]} of {name} is taken by another process: stop that one, "
                    f"or remove {name!r} from {path} to choose another"
                )
        else:
            ports[name] = _choose(set(ports.values()))
    path.write_text(json.dumps(ports, indent=2) + "\n")
    return ports


def is_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT is not in use
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def _remembered(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    try:
        ports = json.loads(path.read_text())
    except ValueError as exc:
        raise ConfigError(str(path), "", f"is not JSON: {exc}") from exc
    if not isinstance(ports, dict):
        raise ConfigError(str(path), "", "is not a mapping of names to ports")
    for name, port in ports.items():
        if not isinstance(port, int) or not 0 < port < 65536:
            raise ConfigError(str(path), name, f"is not a port: {port!r}")
    return ports


def _choose(taken: set[int]) -> int:
    for _ in range(1000):
        port = random.randint(FIRST_PORT, LAST_PORT)
        if port not in taken and is_free(port):
            return port
    raise UpError(f"no free port between {FIRST_PORT} and {LAST_PORT}")
