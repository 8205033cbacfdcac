"""What a kubelet's `/metrics/resource` says, and what two such pages make of it: use per node, pod and container.

Source:  metrics-server; Prometheus' text format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

Container = tuple[str, str, str]  # namespace, pod, container
_NODE: Container = ("", "", "")
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)(?: (\d{1,16}))?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_CPU = ("node_cpu_usage_seconds_total", "container_cpu_usage_seconds_total")
_MEMORY = ("node_memory_working_set_bytes", "container_memory_working_set_bytes")
# 110 pods of a few containers are some thousand lines.
MAX_LINES = 50_000


@dataclass
class Page:
    """One page: counters of processor seconds with their times, and bytes of memory; the node under ("", "", "")."""

    cpu: dict[Container, tuple[float, float]] = field(default_factory=dict)  # seconds, at_s
    memory: dict[Container, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """Use of one container or node. Units:  cpu_n: billionths of a core; memory_bytes: working set."""

    cpu_n: int
    memory_bytes: int


@dataclass
class NodeUsage:
    """Use of a node and of its containers. Units:  at_s: Unix time of the later page; window_s: between both."""

    at_s: float
    window_s: float
    node: Usage | None
    containers: dict[Container, Usage]


def parse_page(text: str, now_s: float) -> Page:
    """Return what is of interest in a page; lines that say something else, or nothing, are skipped."""
    page = Page()
    for name, labels, value, at_s in _lines(text, now_s):
        key = _container(labels) if name.startswith("container") else _NODE
        if name in _CPU:
            page.cpu[key] = (value, at_s)
        elif name in _MEMORY:
            page.memory[key] = value
    return page


def usage_between(before: Page, after: Page) -> NodeUsage | None:
    """Return the use between two pages of one node; None if too little time passed to tell."""
    used: dict[Container, Usage] = {}
    window_s = at_s = 0.0
    for key, (seconds, then_s) in after.cpu.items():
        first = before.cpu.get(key)
        # Less than before: it was restarted, and counts anew.
        if first is None or then_s <= first[1] or seconds < first[0] or key not in after.memory:
            continue
        window_s, at_s = max(window_s, then_s - first[1]), max(at_s, then_s)
        cpu_n = int((seconds - first[0]) / (then_s - first[1]) * 1e9)
        used[key] = Usage(cpu_n, int(after.memory[key]))
    if not used:
        return None
    return NodeUsage(at_s, window_s, used.pop(_NODE, None), used)


def _lines(text: str, now_s: float) -> Iterator[tuple[str, str, float, float]]:
    for line in text.split("\n", MAX_LINES)[:MAX_LINES]:
        found = _LINE.fullmatch(line)
        if found is None or found[1] not in (*_CPU, *_MEMORY):
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if 0 <= value < 1e18:  # neither NaN nor infinity
            yield found[1], found[2] or "", value, int(found[4]) / 1000 if found[4] else now_s


def _container(labels: str) -> Container:
    named = dict(_LABEL.findall(labels))
    return named.get("namespace", ""), named.get("pod", ""), named.get("container", "")
