"""Node lifecycle: a node whose lease is not renewed becomes Unknown and tainted, its pods not ready.

Not done yet: evicting pods when the seconds they tolerate a taint are over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Self

from kubecore.controllers.event_objects import event_about, record
from kubecore.controllers.mirror import Mirror, ObjectClient, builtin
from kubecore.controllers.nodehealth import (
    condition_of,
    heartbeat_of,
    not_ready_patch,
    silence_patch,
    taints_patch,
)
from kubecore.errors import ApiStatusError
from kubecore.patching.patches import MERGE_PATCH, STRATEGIC_PATCH
from kubecore.settings import ControllerSettings

logger = logging.getLogger(__name__)

COMPONENT = "node-controller"
LEASE_NAMESPACE = "kube-node-lease"
Object = dict[str, Any]


class NodeLifecycle:
    """Watch the leases of all nodes, and say in the nodes' conditions and taints who is silent.

    Silence is measured from when a change was seen here, not from the times nodes write: their clocks differ.
    """

    name = "nodelifecycle"

    def __init__(
        self,
        client: ObjectClient,
        settings: ControllerSettings,
        *,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._settings = client, settings
        self._clock, self._steady_clock = clock, steady_clock
        self._wake = asyncio.Event()
        self._nodes = Mirror(client, builtin(client, "", "nodes"), self._wake.set)
        self._pods = Mirror(client, builtin(client, "", "pods"), lambda: None)
        leases = builtin(client, "coordination.k8s.io", "leases")
        self._leases = Mirror(client, leases, lambda: None, namespace=LEASE_NAMESPACE)
        # Per node: its last sign of life, and when it was seen here.
        self._seen: dict[str, tuple[object, float]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in (self._nodes, self._pods, self._leases):
                group.create_task(mirror.run())
            while True:
                self._wake.clear()
                if all(m.synced for m in (self._nodes, self._pods, self._leases)):
                    await self._pass()
                try:
                    async with asyncio.timeout(self._settings.node_monitor_period_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _pass(self) -> None:
        for name in self._seen.keys() - {name for _, name in self._nodes.objects}:
            del self._seen[name]
        for node in list(self._nodes.objects.values()):
            try:
                await self._tend(node)
            except ApiStatusError as exc:  # gone or changed meanwhile: the next pass sees it
                logger.debug("node %s: %s", node["metadata"]["name"], exc)

    async def _tend(self, node: Object) -> None:
        silent_s = self._silent_s(node)
        if silent_s > self._settings.node_monitor_grace_s:
            patch = silence_patch(node, self._clock())
            if patch is not None:
                node = await self._mark_silent(node, patch)
        patch = taints_patch(node, self._clock())
        if patch is not None:
            node = await self._patch("nodes", node, patch, MERGE_PATCH)
        if condition_of(node, "Ready").get("status", "True") != "True":
            await self._mark_pods(node["metadata"]["name"])

    def _silent_s(self, node: Object) -> float:
        """Return for how long nothing was heard of `node`; 0 when it is first seen here."""
        name, now_s = node["metadata"]["name"], self._steady_clock()
        lease = self._leases.objects.get((LEASE_NAMESPACE, name), {})
        sign = (lease.get("spec", {}).get("renewTime"), heartbeat_of(node))
        if name not in self._seen or self._seen[name][0] != sign:
            self._seen[name] = (sign, now_s)
        return now_s - self._seen[name][1]

    async def _mark_silent(self, node: Object, patch: Object) -> Object:
        name = node["metadata"]["name"]
        was_ready = condition_of(node, "Ready").get("status") == "True"
        node = await self._patch("nodes", node, patch, STRATEGIC_PATCH, subresource="status")
        if was_ready:
            logger.warning("node stopped posting its status", extra={"node": name})
            text = f"Node {name} status is now: NodeNotReady"
            event = event_about(
                node, "Normal", "NodeNotReady", text, component=COMPONENT, now_s=self._clock()
            )
            await record(self._client, event)
        return node

    async def _mark_pods(self, node_name: str) -> None:
        """Set Ready to False on the pods of a node that is not ready: nobody should send them traffic."""
        for pod in list(self._pods.objects.values()):
            if pod["spec"].get("nodeName") != node_name:
                continue
            patch = not_ready_patch(pod, self._clock())
            if patch is not None:
                await self._patch("pods", pod, patch, STRATEGIC_PATCH, subresource="status")

    async def _patch(
        self, plural: str, obj: Object, patch: Object, kind: str, subresource: str = ""
    ) -> Object:
        metadata = obj["metadata"]
        # The version guards the decision: if the node reported meanwhile, it is not silent.
        patch = {**patch, "metadata": {"resourceVersion": metadata.get("resourceVersion")}}
        return await self._client.patch(
            builtin(self._client, "", plural),
            metadata.get("namespace", ""),
            metadata["name"],
            patch,
            content_type=kind,
            subresource=subresource,
        )
