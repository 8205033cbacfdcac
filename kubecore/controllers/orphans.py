"""Removes pods whose node is not in the API any more: no agent is left to end them, so a delete would hang."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Self

from kubecore.controllers.mirror import Mirror, Object, builtin, key_of
from kubecore.errors import ApiStatusError
from kubecore.objects.client import Objects
from kubecore.settings import ControllerSettings

logger = logging.getLogger(__name__)


class OrphanedPods:
    """Component: a node that is gone for `orphan_grace_s` takes its pods with it.

    The grace is for a Node that was deleted by hand while its agent runs: it registers again.
    """

    name = "orphans"

    def __init__(
        self,
        objects: Objects,
        settings: ControllerSettings,
        *,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects, self._settings, self._clock = objects, settings, steady_clock
        self._nodes = Mirror(objects, builtin(objects, "", "nodes"), lambda: None)
        self._pods = Mirror(objects, builtin(objects, "", "pods"), lambda: None)
        self._missing_since_s: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in (self._nodes, self._pods):
                group.create_task(mirror.run())
            while True:
                if self._nodes.synced and self._pods.synced:
                    await self._pass()
                await asyncio.sleep(self._settings.node_monitor_period_s)

    async def _pass(self) -> None:
        present = {name for _, name in self._nodes.objects}
        bound = [pod for pod in self._pods.objects.values() if pod["spec"].get("nodeName")]
        missing = {pod["spec"]["nodeName"] for pod in bound} - present
        now_s = self._clock()
        since_s = {node: self._missing_since_s.get(node, now_s) for node in missing}
        self._missing_since_s = since_s
        for pod in bound:
            node = pod["spec"]["nodeName"]
            if node in missing and now_s - since_s[node] >= self._settings.orphan_grace_s:
                await self._remove(pod, node)

    async def _remove(self, pod: Object, node: str) -> None:
        namespace, name = key_of(pod)
        metadata = pod["metadata"]
        if metadata.get("deletionGracePeriodSeconds") == 0:  # a finalizer holds it
            return
        try:
            pods = builtin(self._objects, "", "pods")
            uid = metadata["uid"]
            await self._objects.delete(pods, namespace, name, grace_period_s=0, uid=uid)
        except ApiStatusError as exc:  # gone or changed meanwhile: the next pass sees it
            logger.debug("pod %s/%s: not removed: %s", namespace, name, exc)
            return
        extra = {"pod": f"{namespace}/{name}", "node": node}
        logger.info("pod removed, its node is gone", extra=extra)
