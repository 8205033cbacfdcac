"""The devices of one mapper: a task each, started, changed and ended as edgecore says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from corekit.backoff import Backoff
from devicemodels.dmi import MappedDevice, MappedType, unpack_device, unpack_model
from devicemodels.pb import dmi_pb2 as pb
from mappers.sdk.driver import Driver
from mappers.sdk.errors import DriverConfigError
from mappers.sdk.runner import BACKOFF_S, CLOSE_TIMEOUT_S, UNHEALTHY, DeviceRunner, Reports

logger = logging.getLogger(__name__)

# A driver that has run so long has not failed of how it was started.
HEALTHY_S = 60.0


class Fleet:
    """Runs devices in the task group it is given.

    Raises, from `put` and `replace_all`: nothing; a device whose configuration is wrong is unhealthy and waits for a
    better one.
    """

    def __init__(
        self, driver: type[Driver[Any, Any]], reports: Reports, group: asyncio.TaskGroup
    ) -> None:
        self._driver, self._reports, self._group = driver, reports, group
        self._models: dict[str, Mapping[str, MappedType]] = {}
        self._devices: dict[str, pb.Device] = {}
        self._running: dict[str, tuple[DeviceRunner, asyncio.Task[None]]] = {}

    @property
    def devices(self) -> Mapping[str, pb.Device]:
        """The devices as edgecore told them, by "namespace/name"."""
        return self._devices

    def replace_all(self, models: Iterable[pb.DeviceModel], devices: Iterable[pb.Device]) -> None:
        """Have exactly these devices."""
        self._models = {f"{m.namespace}/{m.name}": unpack_model(m) for m in models}
        wanted = {f"{d.namespace}/{d.name}": d for d in devices}
        for device_id in self._devices.keys() - wanted.keys():
            self.remove(device_id)
        for device in wanted.values():
            self.put(device)

    def put_model(self, model: pb.DeviceModel) -> None:
        """Add or change a model, and what its devices make of it."""
        key = f"{model.namespace}/{model.name}"
        self._models[key] = unpack_model(model)
        for device in list(self._devices.values()):
            if f"{device.namespace}/{device.spec.deviceModelReference}" == key:
                self.put(device)

    def remove_model(self, key: str) -> None:
        """Forget a model; devices that still name it go on with what they know."""
        self._models.pop(key, None)

    def put(self, device: pb.Device) -> None:
        """Add or change a device; new desired values alone do not disturb its connection."""
        device_id = f"{device.namespace}/{device.name}"
        self._devices[device_id] = device
        try:
            mapped = unpack_device(device)
            types = self._models.get(mapped.model, {})
            running = self._running.get(device_id)
            if running and _same_set_up(running[0].mapped, mapped) and running[0].types == types:
                running[0].desire(mapped)
                return
            runner = DeviceRunner(mapped, types, self._driver, self._reports)
        except Exception as exc:  # a driver's schema may run code of its own
            known = isinstance(exc, DriverConfigError)
            problem = exc if known else f"device {device_id}: {exc or type(exc).__name__}"
            logger.error(
                "%s", problem, exc_info=not isinstance(exc, DriverConfigError | ValueError)
            )
            self._end(device_id)
            self._reports.state(device_id, UNHEALTHY)
            return
        before = self._end(device_id)
        task = self._group.create_task(self._guarded(runner, before), name=f"device {device_id}")
        self._running[device_id] = runner, task

    def remove(self, device_id: str) -> None:
        """End a device."""
        self._devices.pop(device_id, None)
        self._end(device_id)
        self._reports.forget(device_id)
        self._driver.forget(device_id)

    def close(self) -> None:
        """End all devices."""
        for device_id in list(self._running):
            self._end(device_id)

    async def _guarded(self, runner: DeviceRunner, before: asyncio.Task[None] | None) -> None:
        """Run one device; a driver's bug is that device's alone, and is said with its trace.

        Shapes:  before: who drove it until now; a serial port has room for one.
        """
        if before is not None:
            await asyncio.wait((before,), timeout=2 * CLOSE_TIMEOUT_S)
        backoff, loop = Backoff(*BACKOFF_S), asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await runner.run()
            except Exception:  # somebody else's code: the boundary between devices
                logger.exception("device %s: its driver failed", runner.mapped.id)
                self._reports.state(runner.mapped.id, UNHEALTHY)
            if loop.time() - began_s > HEALTHY_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_delay_s())

    def _end(self, device_id: str) -> asyncio.Task[None] | None:
        running = self._running.pop(device_id, None)
        if running is None:
            return None
        running[1].cancel()
        return running[1]


def _same_set_up(one: MappedDevice, other: MappedDevice) -> bool:
    """Tell whether two states of a device differ in desired values only."""

    def bare(device: MappedDevice) -> MappedDevice:
        return replace(
            device, properties=tuple(replace(p, desired=None) for p in device.properties)
        )

    return bare(one) == bare(other)
