"""Quality-of-service class and cgroup values of a pod's containers; pure."""

from __future__ import annotations

from decimal import Decimal

from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.spec.quantity import ceil_of, parse_quantity

CPU_PERIOD_US = 100_000
MIN_SHARES, MAX_SHARES = 2, 262_144  # the kernel's own bounds
MIN_QUOTA_US = 1_000
MAX_INT64 = (1 << 63) - 1  # what CRI can carry
_OOM_SCORES = {"Guaranteed": -997, "BestEffort": 1000}
_COUNTED = ("cpu", "memory")


def amount(container: Container, kind: str, resource: str) -> Decimal:
    """Return a request or limit of a container, 0 if none is set; a limit alone is a request too."""
    limits, requests = container.resources.limits, container.resources.requests
    source = requests if kind == "requests" and resource in requests else limits
    return parse_quantity(source.get(resource, 0))


def qos_class(pod: Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    any_set, all_equal = False, True
    for container in containers:
        for resource in _COUNTED:
            limit = amount(container, "limits", resource)
            request = amount(container, "requests", resource)
            any_set = any_set or bool(limit or request)
            all_equal = all_equal and limit > 0 and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if all_equal else "Burstable"


def container_limits(pod: Pod, container: Container, memory_capacity_bytes: int) -> ContainerLimits:
    """Return the cgroup values of `container`."""
    millicores = ceil_of(amount(container, "requests", "cpu") * 1000)
    limit_millicores = ceil_of(amount(container, "limits", "cpu") * 1000)
    quota = max(limit_millicores * CPU_PERIOD_US // 1000, MIN_QUOTA_US) if limit_millicores else 0
    memory_bytes = ceil_of(amount(container, "limits", "memory"))
    return ContainerLimits(
        cpu_shares=min(max(millicores * 1024 // 1000, MIN_SHARES), MAX_SHARES),
        cpu_quota=min(quota, MAX_INT64),
        cpu_period=CPU_PERIOD_US,
        memory_bytes=min(memory_bytes, MAX_INT64),
        oom_score_adj=_oom_score(pod, container, memory_capacity_bytes),
    )


def _oom_score(pod: Pod, container: Container, memory_capacity_bytes: int) -> int:
    score = _OOM_SCORES.get(qos_class(pod))
    if score is not None:
        return score
    requested = ceil_of(amount(container, "requests", "memory"))
    # Between the two fixed scores: who asked for more memory is killed later.
    return min(max(1000 - 1000 * requested // max(memory_capacity_bytes, 1), 3), 999)
