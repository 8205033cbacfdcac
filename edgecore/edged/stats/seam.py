"""The seam to whoever serves the kubelet's stats endpoints."""

from __future__ import annotations

from typing import Any, Protocol


class StatsProvider(Protocol):
    """Answers of the kubelet's stats endpoints, measured when asked and remembered for at least a second.

    None of them raises while the container runtime is down: what the machine itself tells is still there.
    """

    async def summary(self) -> dict[str, Any]:
        """Return the body of `/stats/summary`: a v1alpha1 Summary, ready for JSON."""

    async def resource_metrics(self) -> str:
        """Return the body of `/metrics/resource`, in Prometheus' text format."""

    async def cadvisor_metrics(self) -> str:
        """Return the body of `/metrics/cadvisor`: the part of it that dashboards read."""
