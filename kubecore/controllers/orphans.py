"""Removes pods whose node is not in the API any more: no agent is left to end them, so a delete would hang."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from typing import Self

from kubecore.controllers.mirror import Mirror, Object, builtin, key_of
from kubecore.errors import ApiStatusError
from kubecore.objects.client import Objects
from kubecore.settings import ControllerSettings

logger = logging.getLogger(__name__)

# Pods that are looked at in one turn of the loop: a few milliseconds' worth.
SLICE = 5_000


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
        orphans = await self._orphans()
        now_s = self._clock()
        since_s = {node: self._missing_since_s.get(node, now_s) for node, _ in orphans}
        self._missing_since_s = since_s
        for node, pod in orphans:
            if now_s - since_s[node] >= self._settings.orphan_grace_s:
                await self._remove(pod, node)

    async def _orphans(self) -> list[tuple[str, Object]]:
        """Return pods and the name of their node that is not there. In slices: there may be a hundred thousand."""
        present = {"", *(name for _, name in self._nodes.objects)}
        pods, orphans = iter(list(self._pods.objects.values())), []
        while looked_at := tuple(itertools.islice(pods, SLICE)):
            nodes = [(pod["spec"].get("nodeName") or "", pod) for pod in looked_at]
            orphans += [(node, pod) for node, pod in nodes if node not in present]
            await asyncio.sleep(0)
        return orphans

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
