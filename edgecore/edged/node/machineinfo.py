"""Facts of the machine for the Node object, read from /proc, /sys and /etc; blocking, for use in threads."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path

KUBELET_VERSION = "v1.32.0+armadillo-0.1.0"
# kubelet's default hard eviction thresholds.
MEMORY_RESERVE_BYTES = 100 << 20
DISK_RESERVE = Decimal("0.10")
INODE_RESERVE = Decimal("0.05")
PID_RESERVE = Decimal("0.05")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_ANYWHERE = "192.0.2.1"  # TEST-NET-1: no packet is sent, only the route is looked up


def architecture() -> str:
    """Return the machine's architecture as Go and Kubernetes name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def capacity(root: Path, max_pods: int) -> dict[str, Decimal]:
    """Return the machine's resources in base units."""
    disk = os.statvfs(_existing(root))
    return {
        "cpu": Decimal(os.cpu_count() or 1),
        "memory": Decimal(_memory("MemTotal")),
        "pods": Decimal(max_pods),
        "ephemeral-storage": Decimal(disk.f_blocks * disk.f_frsize),
    }


def memory_capacity_bytes() -> int:
    """Return the machine's memory."""
    return _memory("MemTotal")


def allocatable(resources: dict[str, Decimal]) -> dict[str, Decimal]:
    """Return what pods may use of `resources`."""
    return {
        **resources,
        "memory": max(resources["memory"] - MEMORY_RESERVE_BYTES, Decimal(0)),
        "ephemeral-storage": resources["ephemeral-storage"] * (1 - DISK_RESERVE) // 1,
    }


def resource_list(resources: dict[str, Decimal], *, bytes_in_ki: bool) -> dict[str, str]:
    """Return `resources` as the Node object writes them."""
    written: dict[str, str] = {}
    for name, value in sorted(resources.items()):
        in_ki = name == "memory" or (name == "ephemeral-storage" and bytes_in_ki)
        written[name] = f"{int(value) // 1024}Ki" if in_ki else str(int(value))
    return written


def pressures(root: Path) -> dict[str, bool]:
    """Return which of Memory, Disk and PID are short."""
    disk = os.statvfs(_existing(root))
    disk_short = disk.f_bavail < disk.f_blocks * DISK_RESERVE
    inodes_short = bool(disk.f_files) and disk.f_favail < disk.f_files * INODE_RESERVE
    return {
        "MemoryPressure": _memory("MemAvailable") < MEMORY_RESERVE_BYTES,
        "DiskPressure": disk_short or inodes_short,
        "PIDPressure": _pids_short(),
    }


def node_info(runtime_version: str) -> dict[str, str]:
    """Return the Node's `nodeInfo`."""
    return {
        "architecture": architecture(),
        "bootID": _first_line("/proc/sys/kernel/random/boot_id"),
        "containerRuntimeVersion": runtime_version,
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": KUBELET_VERSION,
        "machineID": _first_line("/etc/machine-id"),
        "operatingSystem": "linux",
        "osImage": _os_image(),
        # Only root may read the firmware's; the machine id is unique as well.
        "systemUUID": _first_line("/sys/class/dmi/id/product_uuid")
        or _first_line("/etc/machine-id"),
    }


def routed_address(server: str) -> Callable[[], str]:
    """Return a function that gives the address which routes to `server` (host:port), or else anywhere.

    Without any route, which an edge node must survive, it gives the last answer, or loopback.
    """
    host = server.rpartition(":")[0].strip("[]")
    last = ["127.0.0.1"]

    def address() -> str:
        for target in (host, _ANYWHERE):
            found = _source_address(target)
            if found and not ip_address(found).is_loopback:
                last[0] = found
                break
        return last[0]

    return address


def _source_address(target: str) -> str:
    try:
        family = socket.AF_INET6 if ip_address(target).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except (OSError, ValueError):  # no route, or a name: resolving it would wait for the network
        return ""


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _memory(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _pids_short() -> bool:
    limit = int(_first_line("/proc/sys/kernel/pid_max") or 0)
    running = int(_first_line("/proc/loadavg").split()[3].split("/")[1])
    return bool(limit) and limit - running < limit * PID_RESERVE


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().split("\n", 1)[0].strip()
    except OSError:
        return ""
