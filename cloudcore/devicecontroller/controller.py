"""The component: judges every Device when it, its model or its node changes, and takes nodes' reports."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Self

from cloudcore import metrics
from cloudcore.devicecontroller.acceptance import Refs, condition_patch, judge, refs_of
from cloudcore.devicecontroller.reports import Verdict, after_error
from cloudcore.devicecontroller.seams import Cache, DeviceApi, Follower
from cloudcore.devicecontroller.statuswriter import FIELD_MANAGER, StatusWriter
from cloudcore.edgecontroller.nodes import Standing, standing_of
from cloudcore.kube.client import MERGE_PATCH
from cloudcore.kube.resources import DEVICES, KubeObject
from cloudcore.settings import DeviceSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from corekit.timestamps import rfc3339
from synccore.messages import Delta, ObjectKey

logger = logging.getLogger(__name__)

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0


class DeviceController:
    """Keeps `status` of every Device true, from both sides: nodes' reports and the cloud's own judgement."""

    name = "devicecontroller"

    def __init__(
        self,
        api: DeviceApi,
        settings: DeviceSettings,
        *,
        devices: Cache,
        models: Cache,
        nodes: Cache,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._clock = api, clock
        self._devices, self._models, self._nodes = devices, models, nodes
        self._writer = StatusWriter(api, devices, settings)
        self._refs: dict[ObjectKey, Refs] = {}
        self._known_nodes: set[str] = set()
        self._lost_nodes: set[str] = set()
        self._dirty: dict[ObjectKey, None] = {}  # in the order they became so
        self._wake = asyncio.Event()
        self._backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        self._fault = RepeatedFault(logger, "device conditions cannot be written")

    async def __aenter__(self) -> Self:
        """Follow the caches."""
        self._devices.subscribe(Follower(self._device_changed, self._device_gone))
        self._models.subscribe(Follower(self._model_changed, self._model_gone))
        self._nodes.subscribe(Follower(self._node_changed, self._node_gone))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing."""

    async def write(self, node: str, delta: Delta) -> None:
        """Take a report of kind Device; as `ReportSink.write`."""
        await self._writer.write(node, delta)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run(), name="device status")
            group.create_task(self._judge_all(), name="device conditions")

    async def _judge_all(self) -> None:
        for cache in (self._devices, self._models, self._nodes):
            await cache.wait_synced()  # before that every model would seem to be missing
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                await self._settle(key)

    async def _settle(self, key: ObjectKey) -> None:
        obj = self._devices.get(key)
        if obj is None:
            return
        try:
            await self._write_condition(obj)
        except KubeApiError as exc:
            if after_error(exc) is Verdict.DROP:
                logger.info("condition of %s not written: %s", key, exc)
                return
            self._fault.failed(exc)
            self._mark(key)
            await asyncio.sleep(max(exc.retry_after_s or 0.0, self._backoff.next_delay_s()))
        else:
            self._backoff.reset()
            self._fault.cleared()

    async def _write_condition(self, obj: KubeObject) -> None:
        def find_model(name: str) -> bytes | None:
            found = self._models.get(ObjectKey("DeviceModel", obj.key.namespace, name))
            return found.body if found else None

        judgement = judge(obj.body, find_model, self._known_nodes.__contains__)
        lost = self._refs[obj.key].node in self._lost_nodes if obj.key in self._refs else False
        now = rfc3339(self._clock())
        patch = condition_patch(obj.uid, obj.body, judgement, now, node_lost=lost)
        if patch is None:
            return
        path = DEVICES.path(obj.key, "status") + f"?fieldManager={FIELD_MANAGER}"
        await self._api.patch(path, patch, content_type=MERGE_PATCH)
        metrics.device_writes.labels("conditions").inc()
        logger.info("%s: %s: %s", obj.key, judgement.reason, judgement.message)

    def _device_changed(self, obj: KubeObject) -> None:
        self._refs[obj.key] = refs_of(obj.body)
        self._mark(obj.key)

    def _device_gone(self, key: ObjectKey) -> None:
        self._refs.pop(key, None)
        self._dirty.pop(key, None)

    def _model_changed(self, obj: KubeObject) -> None:
        self._model_gone(obj.key)

    def _model_gone(self, key: ObjectKey) -> None:
        for device, refs in self._refs.items():
            if refs.model == key.name and device.namespace == key.namespace:
                self._mark(device)

    def _node_changed(self, obj: KubeObject) -> None:
        # Nodes change every few seconds; only that one appeared, or was lost or found, matters here.
        name, lost = obj.key.name, standing_of(obj.body) is Standing.GIVEN_UP
        if name in self._known_nodes and lost == (name in self._lost_nodes):
            return
        self._known_nodes.add(name)
        (self._lost_nodes.add if lost else self._lost_nodes.discard)(name)
        self._mark_on(name)

    def _node_gone(self, key: ObjectKey) -> None:
        self._known_nodes.discard(key.name)
        self._lost_nodes.discard(key.name)
        self._mark_on(key.name)

    def _mark_on(self, node: str) -> None:
        for device, refs in self._refs.items():
            if refs.node == node:
                self._mark(device)

    def _mark(self, key: ObjectKey) -> None:
        self._dirty[key] = None
        self._wake.set()
