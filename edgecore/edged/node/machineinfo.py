"""Facts of the machine for the Node object, read from /proc, /sys and /etc; blocking, for use in threads."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from edgecore.edged.spec.quantity import parse_quantity, shown_bytes
from edgecore.edged.thresholds import MEMORY, NODEFS, Threshold

KUBELET_VERSION = "v1.32.0+armadillo-0.1.0"
# What a hard eviction threshold keeps free of a resource.
_KEPT_FREE = {MEMORY: "memory", NODEFS: "ephemeral-storage"}
_HUGE_PAGES = "hugepages-"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_ANYWHERE = "192.0.2.1"  # TEST-NET-1: no packet is sent, only the route is looked up


def architecture() -> str:
    """Return the machine's architecture as Go and Kubernetes name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def capacity(
    root: Path, max_pods: int, extended: Mapping[str, str] | None = None
) -> dict[str, Decimal]:
    """Return the machine's resources in base units.

    Shapes:  extended: resources that only the settings know of, as `example.com/relay: "4"`.
    """
    disk = os.statvfs(_existing(root))
    return {
        "cpu": Decimal(os.cpu_count() or 1),
        "memory": Decimal(_memory("MemTotal")),
        "pods": Decimal(max_pods),
        "ephemeral-storage": Decimal(disk.f_blocks * disk.f_frsize),
        **_huge_pages(),
        **{name: parse_quantity(amount) for name, amount in (extended or {}).items()},
    }


def memory_capacity_bytes() -> int:
    """Return the machine's memory."""
    return _memory("MemTotal")


def allocatable(
    resources: Mapping[str, Decimal],
    reserved: Sequence[Mapping[str, str]] = (),
    thresholds: Sequence[Threshold] = (),
) -> dict[str, Decimal]:
    """Return what pods may use of `resources`: the rest beside what is reserved and what eviction keeps free.

    Shapes:  thresholds: the hard ones.
    """
    left = dict(resources)
    for amounts in reserved:
        for name, amount in amounts.items():
            if name in left:
                left[name] -= parse_quantity(amount)
    for threshold in thresholds:
        kept = _KEPT_FREE.get(threshold.signal)
        if kept in left:
            left[kept] -= threshold.quantity(int(resources[kept]))
    for name, pages in resources.items():
        if name.startswith(_HUGE_PAGES):  # set aside at boot: nothing else can use that memory
            left["memory"] -= pages
    return {name: max(value, Decimal(0)) for name, value in left.items()}


def resource_list(resources: dict[str, Decimal], *, bytes_in_ki: bool) -> dict[str, str]:
    """Return `resources` as the Node object writes them."""
    written: dict[str, str] = {}
    for name, value in sorted(resources.items()):
        in_ki = name == "memory" or (name == "ephemeral-storage" and bytes_in_ki)
        if in_ki:
            written[name] = f"{int(value) // 1024}Ki"
        elif name == "cpu" and value != int(value):
            written[name] = f"{int(value * 1000)}m"
        else:
            written[name] = str(int(value))
    return written


def node_info(runtime_version: str) -> dict[str, Any]:
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
        "swap": {"capacity": _memory("SwapTotal")},
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


def _huge_pages(folder: Path = Path("/sys/kernel/mm/hugepages")) -> dict[str, Decimal]:
    """Return `hugepages-<size>` -> bytes of every size that the kernel knows."""
    found: dict[str, Decimal] = {}
    for entry in folder.glob("hugepages-*kB"):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        count = int(_first_line(str(entry / "nr_hugepages")) or 0)
        found[_HUGE_PAGES + shown_bytes(size)] = Decimal(count * size)
    return found


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
