"""The scheduler: gives pods that have no node one, and says why where it cannot."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Self

from corekit.timestamps import rfc3339
from kubecore.controllers.claims import Volumes
from kubecore.controllers.event_objects import event_about, record
from kubecore.controllers.mirror import Mirror, ObjectClient, builtin
from kubecore.controllers.passes import pass_after_changes
from kubecore.controllers.placement import NodeLoad, Placed, loads_of, place
from kubecore.errors import ApiStatusError
from kubecore.patching.patches import STRATEGIC_PATCH

logger = logging.getLogger(__name__)

SCHEDULER = "default-scheduler"
# Changes come in bursts (a deployment, a node's first report); one pass serves the burst.
SETTLE_S = 0.02
STORAGE_KINDS = (
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "storageclasses"),
)

Object = dict[str, Any]


class Scheduler:
    """Bind pending pods that ask for `default-scheduler`, as nodes and pods come and go."""

    name = "scheduler"

    def __init__(self, client: ObjectClient, *, clock: Callable[[], float] = time.time) -> None:
        self._client, self._clock = client, clock
        self._wake = asyncio.Event()
        self._pods = Mirror(client, builtin(client, "", "pods"), self._wake.set)
        self._nodes = Mirror(client, builtin(client, "", "nodes"), self._wake.set)
        self._storage = [
            Mirror(client, builtin(client, group, plural), self._wake.set)
            for group, plural in STORAGE_KINDS
        ]
        # Bound by us, not yet seen so by the mirror: uid to node.
        self._assumed: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pods.run(), name="scheduler pods")
            group.create_task(self._nodes.run(), name="scheduler nodes")
            for mirror in self._storage:
                group.create_task(mirror.run(), name="scheduler volumes")
            await pass_after_changes(
                "pods that wait for a node",
                self._wake,
                lambda: all(m.synced for m in (self._pods, self._nodes, *self._storage)),
                self._pass,
                settle_s=SETTLE_S,
            )

    @property
    def _volumes(self) -> Volumes:
        claims, volumes, classes = (mirror.objects for mirror in self._storage)
        return Volumes(claims, volumes, classes)

    async def _pass(self) -> bool:
        """Try every pending pod once; return whether a write failed."""
        pods = [self._with_assumed(pod) for pod in self._pods.objects.values()]
        waiting = sorted((pod for pod in pods if is_pending(pod)), key=_turn)
        if not waiting:
            return False
        nodes, loads = list(self._nodes.objects.values()), loads_of(pods)
        volumes = self._volumes
        for pod in pods:
            if pod["spec"].get("nodeName"):
                volumes.take(pod)
        failed = False
        for pod in waiting:
            decision = place(pod, nodes, loads, volumes)
            try:
                if isinstance(decision, Placed):
                    await self._bind(pod, decision.node)
                    loads.setdefault(decision.node, NodeLoad()).add(pod)
                    volumes.take(pod)
                else:
                    await self._refuse(pod, decision.message)
            except ApiStatusError as exc:
                # 404, 409: the pod went or was bound meanwhile, and its event is on its way.
                failed = failed or exc.status >= 500
                logger.debug("pod %s: %s", pod["metadata"]["name"], exc)
        return failed

    def _with_assumed(self, pod: Object) -> Object:
        uid = pod["metadata"].get("uid", "")
        if pod["spec"].get("nodeName"):
            self._assumed.pop(uid, None)
            return pod
        node = self._assumed.get(uid)
        return {**pod, "spec": {**pod["spec"], "nodeName": node}} if node else pod

    async def _bind(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        await self._client.bind(namespace, name, node)
        self._assumed[metadata["uid"]] = node
        logger.info("pod bound", extra={"pod": f"{namespace}/{name}", "node": node})
        text = f"Successfully assigned {namespace}/{name} to {node}"
        await record(self._client, self._event(pod, "Normal", "Scheduled", text))

    async def _refuse(self, pod: Object, message: str) -> None:
        """Say in the pod's conditions and in an event that it has no node; once per reason."""
        patch = unschedulable_patch(pod, message, self._clock())
        if patch is None:
            return
        metadata = pod["metadata"]
        await self._client.patch(
            builtin(self._client, "", "pods"),
            metadata["namespace"],
            metadata["name"],
            patch,
            content_type=STRATEGIC_PATCH,
            subresource="status",
        )
        await record(self._client, self._event(pod, "Warning", "FailedScheduling", message))

    def _event(self, pod: Object, kind: Any, reason: str, message: str) -> Object:
        return event_about(pod, kind, reason, message, component=SCHEDULER, now_s=self._clock())


def is_pending(pod: Object) -> bool:
    """Tell whether a pod waits for this scheduler."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and spec.get("schedulerName", SCHEDULER) == SCHEDULER
        and not spec.get("schedulingGates")
        and "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    )


def unschedulable_patch(pod: Object, message: str, now_s: float) -> Object | None:
    """Return the status patch that says why `pod` has no node, or None if its status says so already."""
    conditions = pod.get("status", {}).get("conditions") or []
    before: Object = next((c for c in conditions if c.get("type") == "PodScheduled"), {})
    if before.get("status") == "False" and before.get("message") == message:
        return None
    since = before.get("lastTransitionTime") if before.get("status") == "False" else None
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since or rfc3339(now_s),
    }
    return {"status": {"phase": "Pending", "conditions": [condition]}}


def _turn(pod: Object) -> tuple[int, str, str]:
    """Return a sort key: higher priority first, then the oldest."""
    metadata = pod["metadata"]
    created = metadata.get("creationTimestamp", "")
    return -int(pod["spec"].get("priority") or 0), created, metadata["name"]
