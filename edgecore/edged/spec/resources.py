"""Quality-of-service class and cgroup values of a pod and its containers; pure. The sums are kubelet's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.podspec import Container, Pod, Quantity, Resources
from edgecore.edged.spec.quantity import ceil_of, parse_quantity

CPU_PERIOD_US = 100_000
MIN_SHARES, MAX_SHARES = 2, 262_144  # the kernel's own bounds
MIN_QUOTA_US = 1_000
MAX_INT64 = (1 << 63) - 1  # what CRI can carry
GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE = -997, 1000
NODE_CRITICAL_PRIORITY = 2_000_001_000  # of the class system-node-critical
HUGE_PAGES = "hugepages-"
_COUNTED = ("cpu", "memory")


def amount(container: Container, kind: str, resource: str) -> Decimal:
    """Return a request or limit of a container, 0 if none is set; a limit alone is a request too."""
    return _amount(container.resources, kind, resource)


def qos_class(pod: Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort; what the pod as a whole asks for counts, if it asks."""
    whole = pod.spec.resources
    if whole.limits or whole.requests:
        return _qos_of([whole])
    return _qos_of([c.resources for c in (*pod.spec.init_containers, *pod.spec.containers)])


def container_limits(
    pod: Pod,
    container: Container,
    memory_capacity_bytes: int,
    *,
    huge_page_sizes: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> ContainerLimits:
    """Return the cgroup values of `container`. Shapes: settings: what every container is given beside them."""
    limits = _limits(
        request_cpu=amount(container, "requests", "cpu"),
        limit_cpu=amount(container, "limits", "cpu"),
        limit_memory=amount(container, "limits", "memory"),
    )
    return ContainerLimits(
        cpu_shares=limits.cpu_shares,
        cpu_quota=limits.cpu_quota,
        cpu_period=limits.cpu_period,
        memory_bytes=limits.memory_bytes,
        oom_score_adj=_oom_score(pod, container, memory_capacity_bytes),
        huge_pages=_huge_pages(container.resources.limits, huge_page_sizes),
        settings=settings or {},
    )


def pod_limits(pod: Pod) -> ContainerLimits:
    """Return the cgroup values of the pod as a whole, overhead included; a limit only if all of it is limited."""
    spec, overhead = pod.spec, pod.spec.overhead

    def total(kind: str, resource: str) -> Decimal:
        asked = _amount(spec.resources, kind, resource)
        whole = asked if asked else _effective(pod, kind, resource)
        return whole + parse_quantity(overhead.get(resource, 0)) if whole else whole

    limit_cpu = limit_memory = Decimal(0)
    if _all_limited(pod, "cpu"):
        limit_cpu = total("limits", "cpu")
    if _all_limited(pod, "memory"):
        limit_memory = total("limits", "memory")
    return _limits(total("requests", "cpu"), limit_cpu, limit_memory)


def node_limits(
    cpu_count: int, memory_capacity_bytes: int, reserved: Iterable[Mapping[str, str]]
) -> ContainerLimits:
    """Return the cgroup values of all pods of a node together: what it has without what is reserved.

    Memory has no limit if nothing of it is reserved: the machine's own end is the limit then.
    """
    amounts = [{name: parse_quantity(part.get(name, 0)) for name in _COUNTED} for part in reserved]
    cpu, memory = (sum((a[name] for a in amounts), Decimal(0)) for name in _COUNTED)
    left = max(memory_capacity_bytes - memory, Decimal(1)) if memory else Decimal(0)
    return _limits(max(cpu_count - cpu, Decimal(0)), Decimal(0), left)


def overhead_limits(pod: Pod) -> ContainerLimits:
    """Return what the pod's runtime class adds, as cgroup values; all zero if nothing."""
    overhead = pod.spec.overhead
    if not overhead:
        return ContainerLimits(cpu_period=0)
    cpu, memory = (parse_quantity(overhead.get(name, 0)) for name in _COUNTED)
    return _limits(cpu, cpu, memory)


def huge_page_name(size: str) -> str:
    """Return the page size of a resource (`2Mi`) as the kernel writes it (`2MB`)."""
    size_bytes = int(parse_quantity(size))
    for unit, shift in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size_bytes >> shift and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift}{unit}"
    return f"{size_bytes}B"


def _amount(resources: Resources, kind: str, resource: str) -> Decimal:
    limits, requests = resources.limits, resources.requests
    source = requests if kind == "requests" and resource in requests else limits
    return parse_quantity(source.get(resource, 0))


def _qos_of(parts: Iterable[Resources]) -> str:
    any_set, all_equal = False, True
    for part in parts:
        for resource in _COUNTED:
            limit, request = (_amount(part, kind, resource) for kind in ("limits", "requests"))
            any_set = any_set or bool(limit or request)
            all_equal = all_equal and limit > 0 and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if all_equal else "Burstable"


def _limits(request_cpu: Decimal, limit_cpu: Decimal, limit_memory: Decimal) -> ContainerLimits:
    millicores, limit_millicores = ceil_of(request_cpu * 1000), ceil_of(limit_cpu * 1000)
    quota = max(limit_millicores * CPU_PERIOD_US // 1000, MIN_QUOTA_US) if limit_millicores else 0
    return ContainerLimits(
        cpu_shares=min(max(millicores * 1024 // 1000, MIN_SHARES), MAX_SHARES),
        cpu_quota=min(quota, MAX_INT64),
        cpu_period=CPU_PERIOD_US,
        memory_bytes=min(ceil_of(limit_memory), MAX_INT64),
    )


def _effective(pod: Pod, kind: str, resource: str) -> Decimal:
    """Return what the pod's containers need together at any one time: init containers run one by one, but
    sidecars stay.
    """
    sidecars = peak = Decimal(0)
    for container in pod.spec.init_containers:
        own = amount(container, kind, resource)
        if container.is_sidecar:
            sidecars += own
        else:
            peak = max(peak, sidecars + own)
        peak = max(peak, sidecars)
    apps = sum((amount(c, kind, resource) for c in pod.spec.containers), Decimal(0))
    return max(apps + sidecars, peak)


def _all_limited(pod: Pod, resource: str) -> bool:
    if _amount(pod.spec.resources, "limits", resource):
        return True
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return all(amount(c, "limits", resource) for c in containers)


def _huge_pages(limits: Mapping[str, Quantity], sizes: Sequence[str]) -> dict[str, int]:
    """Return a limit for every page size of the node: none was asked for, none may be used."""
    table = dict.fromkeys(sizes, 0)
    for name, value in limits.items():
        if name.startswith(HUGE_PAGES):
            table[huge_page_name(name.removeprefix(HUGE_PAGES))] = ceil_of(parse_quantity(value))
    return table


def _oom_score(pod: Pod, container: Container, memory_capacity_bytes: int) -> int:
    if pod.spec.priority >= NODE_CRITICAL_PRIORITY:
        return GUARANTEED_OOM_SCORE
    kind = qos_class(pod)
    if kind != "Burstable":
        return GUARANTEED_OOM_SCORE if kind == "Guaranteed" else BEST_EFFORT_OOM_SCORE

    def score(memory: Decimal) -> int:
        return 1000 - 1000 * ceil_of(memory) // max(memory_capacity_bytes, 1)

    found = score(amount(container, "requests", "memory"))
    if container.is_sidecar:  # it must not be killed before those that it serves
        smallest = min(amount(c, "requests", "memory") for c in pod.spec.containers)
        found = min(found, score(smallest))
    # Between the two fixed scores: who asked for more memory is killed later.
    return min(max(found, BEST_EFFORT_OOM_SCORE + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)
