"""What this machine can do and what containers have put on it: capabilities, mounts, bridges, packet rules."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path


def has_capability(number: int) -> bool:
    """Return whether this process has the capability `number` (CAP_SYS_RESOURCE is 24)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def snapshotter_for(folder: Path) -> str:
    """Return containerd's snapshotter for `folder`: overlayfs does not stack on itself, as inside a container."""
    best, best_kind = "", ""
    for point, kind in _mounts():
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, best_kind = point, kind
    return "native" if best_kind == "overlay" else "overlayfs"


def unmount_below(folder: Path) -> None:
    """Unmount everything below `folder`, inner mounts first; what is still in use goes once it is not."""
    inside = [point for point, _ in _mounts() if Path(point).is_relative_to(folder)]
    for point in sorted(inside, key=len, reverse=True):
        _run("umount", "--lazy", point)


def remove_pod_network(bridge: str) -> None:
    """Remove the bridge and the packet rules that the CNI plugins made for the network of the same name."""
    if Path("/sys/class/net", bridge).exists():
        _run("ip", "link", "delete", bridge)
    for table in ("nat", "filter"):
        rules = [shlex.split(line) for line in _run("iptables", "-t", table, "-S").splitlines()]
        # The plugins write the network's name into each rule's comment: name: "<network>" id: "<container>"
        ours = [
            rule for rule in rules if rule and any(f'name: "{bridge}"' in word for word in rule)
        ]
        chains = {word for rule in ours for word in rule if word.startswith("CNI-")}
        for rule in ours:
            _run("iptables", "-t", table, "-D", *rule[1:])
        for chain in chains - _SHARED_CHAINS:
            _run("iptables", "-t", table, "-F", chain)
            _run("iptables", "-t", table, "-X", chain)


# One per machine, whatever the number of networks.
_SHARED_CHAINS = frozenset({"CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"})


def _mounts() -> list[tuple[str, str]]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [(_unescaped(line.split()[1]), line.split()[2]) for line in lines]


def _unescaped(point: str) -> str:
    return point.encode().decode("unicode_escape")  # a blank is written as \\040


def _run(program: str, *args: str) -> str:
    path = shutil.which(program)
    if path is None:
        return ""  # without the program there is nothing of its kind to remove
    return subprocess.run([path, *args], capture_output=True, text=True, check=False).stdout
