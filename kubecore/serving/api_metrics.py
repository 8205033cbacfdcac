"""metrics.k8s.io: what `kubectl top` reads. Nothing is stored; the scraper has it in memory."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from corekit.timestamps import rfc3339
from kubecore.access.target import Target
from kubecore.errors import ApiStatusError, method_not_allowed, unknown_path
from kubecore.objects.operations import selector
from kubecore.serving.answers import answer
from kubecore.storage.store import Object, Store
from kubecore.streams.resource_metrics import NodeUsage, Usage
from kubecore.streams.scraper import Scraper

GROUP, VERSION = "metrics.k8s.io", "v1beta1"


class MetricsApi:
    """Serves NodeMetrics and PodMetrics."""

    def __init__(self, store: Store, scraper: Scraper) -> None:
        self._store, self._scraper = store, scraper

    async def serve(self, request: web.Request, target: Target) -> web.Response:
        """Answer. Raises:  ApiStatusError 404: no such path, or no metrics of it yet."""
        if (
            target.version != VERSION
            or target.plural not in ("nodes", "pods")
            or target.subresource
        ):
            raise unknown_path()
        if target.verb not in ("get", "list"):
            raise method_not_allowed()
        usage = await self._scraper.usage()
        found = self._nodes(usage) if target.plural == "nodes" else self._pods(usage, target)
        if target.name:
            named = [obj for obj in found if obj["metadata"]["name"] == target.name]
            if not named:
                problem = f'{target.plural}.{GROUP} "{target.name}" not found'
                raise ApiStatusError(404, "NotFound", problem)
            return answer(named[0])
        selects = selector(request.query.get("labelSelector", ""), "")
        items = [obj for obj in found if selects is None or selects(obj)]
        kind = "NodeMetricsList" if target.plural == "nodes" else "PodMetricsList"
        return answer(
            {"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}
        )

    def _nodes(self, usage: dict[str, NodeUsage]) -> list[Object]:
        found = []
        for entry in self._store.entries("nodes"):
            node = usage.get(entry.name)
            if node is not None and node.node is not None:
                shown = _metrics("NodeMetrics", entry.parse(), node)
                found.append(shown | {"usage": _amounts(node.node)})
        return found

    def _pods(self, usage: dict[str, NodeUsage], target: Target) -> list[Object]:
        by_pod: dict[tuple[str, str, str], list[Object]] = {}
        for name, node in usage.items():
            for (namespace, pod, container), used in node.containers.items():
                amounts = {"name": container, "usage": _amounts(used)}
                by_pod.setdefault((name, namespace, pod), []).append(amounts)
        found = []
        for entry in self._store.entries("pods", target.namespace):
            obj = entry.parse()
            host = obj["spec"].get("nodeName", "")
            # A node speaks for its own pods only.
            if containers := by_pod.get((host, entry.namespace, entry.name)):
                found.append(_metrics("PodMetrics", obj, usage[host]) | {"containers": containers})
        return found


def _metrics(kind: str, obj: Object, usage: NodeUsage) -> Object:
    stamp = rfc3339(usage.at_s)
    kept = {k: obj["metadata"][k] for k in ("name", "namespace", "labels") if k in obj["metadata"]}
    metadata: dict[str, Any] = {**kept, "creationTimestamp": stamp}
    head: Object = {"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", "metadata": metadata}
    return head | {"timestamp": stamp, "window": f"{usage.window_s:.3f}s"}


def _amounts(usage: Usage) -> Object:
    return {"cpu": f"{usage.cpu_n}n", "memory": f"{usage.memory_bytes // 1024}Ki"}
