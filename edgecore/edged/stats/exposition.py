"""A snapshot in Prometheus' text format, under the names of kubelet and cAdvisor; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edgecore.edged.stats.samples import ContainerSample, InterfaceSample, Snapshot
from edgecore.edged.stats.summary import total_cpu, total_memory

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Labels = Mapping[str, str]


@dataclass
class _Family:
    name: str
    kind: str
    help: str
    lines: list[str] = field(default_factory=list)


class _Page:
    """Families in the order of their first value."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def add(
        self, name: str, kind: str, text: str, labels: Labels, value: float, time_s: float = 0.0
    ) -> None:
        """Add one value; with `time_s` (Unix seconds) it carries its own time."""
        family = self._families.setdefault(name, _Family(name, kind, text))
        written = ",".join(f'{k}="{v.translate(_ESCAPES)}"' for k, v in sorted(labels.items()))
        stamp = f" {round(time_s * 1000)}" if time_s else ""
        shown = f"{{{written}}}" if written else ""
        family.lines.append(f"{name}{shown} {_number(value)}{stamp}")

    def text(self) -> str:
        """Return the page."""
        blocks: list[str] = []
        for family in self._families.values():
            blocks.append(f"# HELP {family.name} {family.help}")
            blocks.append(f"# TYPE {family.name} {family.kind}")
            blocks += family.lines
        return "\n".join((*blocks, ""))


def resource_metrics(snapshot: Snapshot) -> str:
    """Return the page of `/metrics/resource`, the one that metrics-server reads."""
    page = _Page()
    for pod in snapshot.pods:
        for container in pod.containers:
            labels = {"container": container.name, **_pod_labels(pod.pod.namespace, pod.pod.name)}
            _usage(page, "container", labels, _values(container), container.time_s)
            page.add(
                "container_start_time_seconds", "gauge",
                "Start time of the container since the Unix epoch in seconds",
                labels, container.started_s,
            )  # fmt: skip
    node = snapshot.node
    values = (node.cpu.usage_ns, node.memory.working_set_bytes, node.memory.swap_bytes)
    _usage(page, "node", {}, values, node.time_s)
    for pod in snapshot.pods:
        memory = total_memory(pod.containers)
        values = (
            total_cpu(pod.containers).usage_ns, memory.working_set_bytes, memory.swap_bytes,
        )  # fmt: skip
        time_s = max((c.time_s for c in pod.containers), default=node.time_s)
        _usage(page, "pod", _pod_labels(pod.pod.namespace, pod.pod.name), values, time_s)
    page.add(
        "resource_scrape_error", "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        {}, 0 if snapshot.complete else 1,
    )  # fmt: skip
    return page.text()


def cadvisor_metrics(snapshot: Snapshot) -> str:
    """Return the page of `/metrics/cadvisor`."""
    page = _Page()
    node = snapshot.node
    _cadvisor_node(page, snapshot)
    for pod in snapshot.pods:
        named = _pod_labels(pod.pod.namespace, pod.pod.name)
        for container in pod.containers:
            _cadvisor_container(page, container, named, node.time_s)
        labels = {"container": "", "id": "", "image": "", "name": pod.sandbox_id, **named}
        _interfaces(page, labels, pod.interfaces, node.time_s)
    return page.text()


def _usage(page: _Page, subject: str, labels: Labels, values: Sequence[int], time_s: float) -> None:
    cpu_ns, working_set, swap = values
    page.add(
        f"{subject}_cpu_usage_seconds_total", "counter",
        f"Cumulative cpu time consumed by the {subject} in core-seconds",
        labels, cpu_ns / 1e9, time_s,
    )  # fmt: skip
    page.add(
        f"{subject}_memory_working_set_bytes", "gauge",
        f"Current working set of the {subject} in bytes", labels, working_set, time_s,
    )  # fmt: skip
    page.add(
        f"{subject}_swap_usage_bytes", "gauge",
        f"Current amount of the {subject} swap usage in bytes", labels, swap, time_s,
    )  # fmt: skip


def _values(container: ContainerSample) -> tuple[int, int, int]:
    memory = container.memory
    return container.cpu.usage_ns, memory.working_set_bytes, memory.swap_bytes


def _cadvisor_node(page: _Page, snapshot: Snapshot) -> None:
    node = snapshot.node
    whole = dict.fromkeys(("container", "image", "name", "namespace", "pod"), "") | {"id": "/"}
    machine = {
        "machine_cpu_cores": ("Number of logical CPU cores.", node.cpu_count),
        "machine_memory_bytes": ("Amount of memory installed on the machine.", node.memory_total_bytes),
        "machine_swap_bytes": ("Amount of swap memory available on the machine.", node.swap_total_bytes),
        "machine_scrape_error": ("1 if there was an error while getting machine metrics, 0 otherwise.", 0),
    }  # fmt: skip
    for name, (text, value) in machine.items():
        page.add(name, "gauge", text, {}, value)
    page.add(
        "container_scrape_error", "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
        {}, 0 if snapshot.complete else 1,
    )  # fmt: skip
    cpu = {"cpu": "total", **whole}
    page.add(*_CPU, cpu, node.cpu.usage_ns / 1e9, node.time_s)
    memory = node.memory
    for family, value in zip(_MEMORY, _memory_values(memory), strict=True):
        page.add(*family, whole, value, node.time_s)
    for device, fs in (("nodefs", node.fs), ("imagefs", node.image_fs)):
        if fs is not None:
            labels = {"device": device, **whole}
            page.add(*_FS_USAGE, labels, fs.capacity_bytes - fs.available_bytes, node.time_s)
            page.add(*_FS_LIMIT, labels, fs.capacity_bytes, node.time_s)
            page.add(*_FS_INODES, labels, fs.inodes, node.time_s)
            page.add(*_FS_INODES_FREE, labels, fs.inodes_free, node.time_s)
    _interfaces(page, whole, node.interfaces, node.time_s)


def _cadvisor_container(
    page: _Page, container: ContainerSample, named: Labels, now_s: float
) -> None:
    labels = {
        "container": container.name, "id": container.cgroup, "image": container.image,
        "name": container.id, **named,
    }  # fmt: skip
    time_s, cpu, memory = container.time_s, container.cpu, container.memory
    page.add(*_CPU, {"cpu": "total", **labels}, cpu.usage_ns / 1e9, time_s)
    if cpu.periods is not None:
        page.add(*_PERIODS, labels, cpu.periods, time_s)
        page.add(*_THROTTLED, labels, cpu.throttled_periods, time_s)
        page.add(*_THROTTLED_S, labels, cpu.throttled_ns / 1e9, time_s)
    for family, value in zip(_MEMORY, _memory_values(memory), strict=True):
        page.add(*family, labels, value, time_s)
    page.add(*_MEMORY_LIMIT, labels, memory.limit_bytes or 0)
    if container.rootfs is not None:
        used = container.rootfs.used_bytes + container.logs.used_bytes
        page.add(*_FS_USAGE, {"device": "", **labels}, used, time_s)
    page.add(*_PROCESSES, labels, container.process_count, time_s)
    page.add(*_START, labels, container.started_s)
    page.add(*_LAST_SEEN, labels, now_s)


def _memory_values(memory: object) -> Iterable[int]:
    names = ("usage_bytes", "working_set_bytes", "rss_bytes", "cache_bytes", "swap_bytes")
    return [getattr(memory, name) for name in names]


def _interfaces(
    page: _Page, labels: Labels, interfaces: Sequence[InterfaceSample], time_s: float
) -> None:
    for interface in interfaces:
        for way, prefix in (("receive", "rx"), ("transmit", "tx")):
            for kind, member in _TRAFFIC.items():
                page.add(
                    f"container_network_{way}_{kind}_total", "counter",
                    f"Cumulative count of {kind.replace('_', ' ')} while {way[:-1]}ing",
                    {"interface": interface.name, **labels},
                    getattr(interface, f"{prefix}_{member}"), time_s,
                )  # fmt: skip


def _pod_labels(namespace: str, pod: str) -> dict[str, str]:
    return {"namespace": namespace, "pod": pod}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


_TRAFFIC = {
    "bytes": "bytes",
    "packets": "packets",
    "errors": "errors",
    "packets_dropped": "dropped",
}
_CPU = ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.")
_PERIODS = (
    "container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.",
)  # fmt: skip
_THROTTLED = (
    "container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.",
)  # fmt: skip
_THROTTLED_S = (
    "container_cpu_cfs_throttled_seconds_total", "counter",
    "Total time duration the container has been throttled.",
)  # fmt: skip
_MEMORY = (
    ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, all of it."),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
    ("container_memory_rss", "gauge", "Size of RSS in bytes."),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory."),
    ("container_memory_swap", "gauge", "Container swap usage in bytes."),
)
_MEMORY_LIMIT = (
    "container_spec_memory_limit_bytes", "gauge", "Memory limit for the container, 0 for none.",
)  # fmt: skip
_FS_USAGE = ("container_fs_usage_bytes", "gauge", "Number of bytes consumed on this filesystem.")
_FS_LIMIT = (
    "container_fs_limit_bytes", "gauge", "Number of bytes that can be consumed on this filesystem.",
)  # fmt: skip
_FS_INODES = ("container_fs_inodes_total", "gauge", "Number of Inodes")
_FS_INODES_FREE = ("container_fs_inodes_free", "gauge", "Number of available Inodes")
_PROCESSES = ("container_processes", "gauge", "Number of processes running inside the container.")
_START = ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch.")
_LAST_SEEN = ("container_last_seen", "gauge", "Last time a container was seen by the exporter")
