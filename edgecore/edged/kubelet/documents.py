"""What the agent knows, whole: pods, statistics, its settings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from edgecore.edged.kubelet.podview import StatusView
from edgecore.edged.runtime import ContainerPhase, ContainerRuntime
from edgecore.edged.stats.seam import StatsProvider
from edgecore.records import RecordStore
from edgecore.settings import EdgeSettings
from edgecore.streams import StreamRefusedError
from synccore.tunnels import UNAVAILABLE


class Documents:
    """Makes each document when it is asked for."""

    def __init__(
        self,
        settings: EdgeSettings,
        store: RecordStore,
        runtime: ContainerRuntime,
        statuses: StatusView,
        stats: StatsProvider | None,
        own_metrics: Callable[[], str],
    ) -> None:
        self._settings, self._store, self._runtime = settings, store, runtime
        self._statuses, self._stats, self._own_metrics = statuses, stats, own_metrics
        self._makers: dict[str, Callable[[], Awaitable[bytes]]] = {
            "pods": self._pods,
            "runningpods": self._running_pods,
            "healthz": self._healthz,
            "configz": self._configz,
            "metrics": self._metrics,
            "stats/summary": self._summary,
            "metrics/resource": self._resource_metrics,
            "metrics/cadvisor": self._cadvisor_metrics,
        }

    async def make(self, name: str) -> bytes:
        """Return the document. Raises: StreamRefusedError, RuntimeUnavailableError."""
        return await self._makers[name]()

    async def _pods(self) -> bytes:
        items = []
        for stored in await self._store.list("Pod"):
            pod = msgspec.json.decode(stored.body)
            pod["status"] = self._statuses.status_of(stored.uid) or {"phase": "Pending"}
            items.append(pod)
        return _pod_list(items)

    async def _running_pods(self) -> bytes:
        items: list[dict[str, Any]] = []
        for sandbox in await self._runtime.list_sandboxes():
            running = [c for c in sandbox.containers if c.phase is ContainerPhase.RUNNING]
            if not running:
                continue
            made = dt.datetime.fromtimestamp(int(sandbox.created_s), dt.UTC)
            pod = sandbox.pod
            items.append(
                {
                    "metadata": {
                        "name": pod.name,
                        "namespace": pod.namespace,
                        "uid": pod.uid,
                        "creationTimestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    },
                    "spec": {"containers": [{"name": c.name, "image": c.image} for c in running]},
                    "status": {},
                }
            )
        return _pod_list(items)

    async def _healthz(self) -> bytes:
        return b"ok"

    async def _configz(self) -> bytes:
        pods, node = self._settings.pods, self._settings.node
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "maxPods": node.max_pods,
            "podLogsDir": pods.log_dir,
            "nodeStatusUpdateFrequency": f"{pods.status_interval_s:g}s",
            "nodeStatusReportFrequency": f"{pods.node_report_interval_s:g}s",
            "nodeLeaseDurationSeconds": round(4 * pods.lease_interval_s),
            "containerRuntimeEndpoint": f"unix://{pods.cri_socket}",
        }
        return msgspec.json.encode({"kubeletconfig": config})

    async def _metrics(self) -> bytes:
        return self._own_metrics().encode()

    async def _summary(self) -> bytes:
        return msgspec.json.encode(await self._provider().summary())

    async def _resource_metrics(self) -> bytes:
        return (await self._provider().resource_metrics()).encode()

    async def _cadvisor_metrics(self) -> bytes:
        return (await self._provider().cadvisor_metrics()).encode()

    def _provider(self) -> StatsProvider:
        if self._stats is None:
            raise StreamRefusedError(UNAVAILABLE, "this agent keeps no statistics")
        return self._stats


def _pod_list(items: list[dict[str, Any]]) -> bytes:
    return msgspec.json.encode(
        {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
    )
