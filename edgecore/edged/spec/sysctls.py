"""Which kernel parameters a pod may set; pure. Source: Kubernetes' "Using sysctls in a Kubernetes Cluster"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Namespaced, and harmless to the pod's neighbours: what upstream allows without being asked, in 1.32.
SAFE: Mapping[str, str] = {
    "kernel.shm_rmid_forced": "IPC",
    "net.ipv4.ip_local_port_range": "Net",
    "net.ipv4.ip_local_reserved_ports": "Net",
    "net.ipv4.ip_unprivileged_port_start": "Net",
    "net.ipv4.ping_group_range": "Net",
    "net.ipv4.tcp_fin_timeout": "Net",
    "net.ipv4.tcp_keepalive_intvl": "Net",
    "net.ipv4.tcp_keepalive_probes": "Net",
    "net.ipv4.tcp_keepalive_time": "Net",
    "net.ipv4.tcp_rmem": "Net",
    "net.ipv4.tcp_syncookies": "Net",
    "net.ipv4.tcp_wmem": "Net",
}
_NAMESPACED_PREFIXES = (("kernel.shm", "IPC"), ("kernel.msg", "IPC"), ("kernel.sem", "IPC"))
_OTHER_PREFIXES = (("fs.mqueue.", "IPC"), ("net.", "Net"))


def dotted(name: str) -> str:
    """Return `name` with dots between its parts, whichever way it is written (`net/ipv4/...`)."""
    first = min((name.find(sign) for sign in "./" if sign in name), default=-1)
    if first < 0 or name[first] == ".":
        return name
    return name.translate(str.maketrans("./", "/."))


def namespace_of(name: str) -> str:
    """Return the kernel namespace that `name` belongs to: IPC, Net, or "" if it is the whole machine's."""
    prefixes = _NAMESPACED_PREFIXES + _OTHER_PREFIXES
    return next((ns for prefix, ns in prefixes if name.startswith(prefix)), "")


def forbidden(
    name: str, allowed_unsafe: Iterable[str], *, host_network: bool, host_ipc: bool
) -> str:
    """Return why a pod may not set `name`, in kubelet's words, or "".

    Shapes:  allowed_unsafe: names, or prefixes that end in `*`, that the node's owner allows beyond the safe ones.
    """
    name = dotted(name)
    namespace = SAFE.get(name, "")
    if not namespace and _matches(name, allowed_unsafe):
        namespace = namespace_of(name)
    if not namespace:
        return f'"{name}" not allowlisted'
    if (namespace == "Net" and host_network) or (namespace == "IPC" and host_ipc):
        return f'"{name}" not allowed with host {namespace} enabled'
    return ""


def _matches(name: str, patterns: Iterable[str]) -> bool:
    for pattern in map(dotted, patterns):
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return True
    return False
