"""One device: connect, poll or listen, write what is desired, report; until cancelled or reconfigured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from corekit.backoff import Backoff
from corekit.errors import DeviceError
from corekit.logs import RepeatedFault
from devicemodels.dmi import MappedDevice, MappedType
from devicemodels.objects import ModelProperty
from devicemodels.values import DeviceModelError, same_value
from mappers.sdk.driver import Driver, Point, PointFault, Value
from mappers.sdk.errors import DeviceUnreachableError, WriteRefusedError
from mappers.sdk.schedule import Schedule
from mappers.sdk.schema import typed
from mappers.sdk.values import model_property, text_of, value_of

logger = logging.getLogger(__name__)

ONLINE, OFFLINE, UNHEALTHY = "online", "offline", "unhealthy"
BACKOFF_S = (0.5, 30.0)
# A driver that hangs is no better than one that says that its device is unreachable.
CALL_TIMEOUT_S = 30.0


class Reports(Protocol):
    """Where values go; never waits."""

    def read(self, device: str, prop: str, text: str) -> None:
        """Take a reading."""

    def observe(self, device: str, prop: str, value: str, error: str = "") -> None:
        """Take what became of a desired value."""

    def state(self, device: str, state: str) -> None:
        """Take the device's state."""


class DeviceRunner:
    """Drives one device with one driver."""

    def __init__(
        self,
        mapped: MappedDevice,
        types: Mapping[str, MappedType],
        driver: type[Driver[Any, Any]],
        reports: Reports,
    ) -> None:
        """Check the configuration. Raises: DriverConfigError: naming device and field."""
        self.mapped, self.types = mapped, dict(types)
        self._driver_type, self._reports = driver, reports
        self._config = typed(mapped.id, "spec.protocol.configData", driver.Config, mapped.config)
        self._rules = {
            p.name: model_property(types[p.name]) for p in mapped.properties if p.name in types
        }
        self._points = [self._point(p.name, p.config) for p in mapped.properties if p.name in types]
        self._schedule = Schedule(mapped.properties)
        self._wanted = {p.name: p.desired for p in mapped.properties if p.desired is not None}
        self._settled: dict[str, str] = {}  # what the device has taken or refused
        self._to_write, self._read_soon = asyncio.Event(), asyncio.Event()
        self._backoff = Backoff(*BACKOFF_S)
        self._fault = RepeatedFault(logger, f"device {mapped.id}")
        self._point_faults: dict[str, RepeatedFault] = {}

    def desire(self, mapped: MappedDevice) -> None:
        """Take the desired values of `mapped`, whose configuration is the one we have."""
        self.mapped = mapped
        wanted = {p.name: p.desired for p in mapped.properties if p.desired is not None}
        for name in self._wanted.keys() - wanted.keys():
            self._settled.pop(name, None)
        self._wanted = wanted
        self._to_write.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            driver = self._driver_type(self.mapped.id, self._config, self._points)
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await driver.open()
                self._reports.state(self.mapped.id, ONLINE)
                self._fault.cleared()
                await self._serve(driver)
            except* (DeviceUnreachableError, TimeoutError, OSError) as group:
                self._reports.state(self.mapped.id, OFFLINE)
                self._fault.failed(group.exceptions[0])
            finally:
                await driver.close()
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _serve(self, driver: Driver[Any, Any]) -> None:
        self._to_write.set()
        async with asyncio.TaskGroup() as group:
            if driver.polls:
                group.create_task(self._poll(driver))
            group.create_task(driver.listen(self._take))
            group.create_task(self._write(driver))

    async def _poll(self, driver: Driver[Any, Any]) -> None:
        self._schedule.restart(asyncio.get_running_loop().time())
        while True:
            now_s = asyncio.get_running_loop().time()
            due = self._schedule.due(now_s)
            if due:
                await self._read(driver, due)
            await self._pause(self._schedule.next_s() - asyncio.get_running_loop().time())

    async def _pause(self, rest_s: float) -> None:
        try:
            async with asyncio.timeout(max(rest_s, 0.001)):
                await self._read_soon.wait()
            self._read_soon.clear()
        except TimeoutError:
            return

    async def _read(self, driver: Driver[Any, Any], names: set[str]) -> None:
        points = [point for point in self._points if point.name in names]
        if points:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                values = await driver.read(points)
            self._take(values)

    def _take(self, values: Mapping[str, Value | PointFault]) -> None:
        """Report what the device said."""
        self._backoff.reset()
        for name, value in values.items():
            fault = self._point_faults.setdefault(
                name, RepeatedFault(logger, f"device {self.mapped.id}: property {name}")
            )
            rule = self._rules.get(name)
            if rule is None:
                continue
            if isinstance(value, PointFault):
                fault.failed(value.reason)
                continue
            try:
                self._reports.read(self.mapped.id, name, text_of(self.mapped.id, rule, value))
                fault.cleared()
            except DeviceModelError as exc:
                fault.failed(exc)

    async def _write(self, driver: Driver[Any, Any]) -> None:
        points = {point.name: point for point in self._points}
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            for name, text in list(self._wanted.items()):
                if self._settled.get(name) != text and name in points:
                    error = await self._write_one(driver, points[name], text)
                    self._settled[name] = text
                    self._reports.observe(self.mapped.id, name, text, error)
                    self._schedule.soon(name)
                    self._read_soon.set()

    async def _write_one(self, driver: Driver[Any, Any], point: Point[Any], text: str) -> str:
        """Bring one point to `text`; return why the device refuses, "" if it does not."""
        rule = self._rules[point.name]
        try:
            value = value_of(self.mapped.id, rule, text)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                if not await self._has_already(driver, point, rule, text):
                    await driver.write(point, value)
        except (WriteRefusedError, DeviceModelError) as exc:
            logger.warning(
                "device %s: property %s refuses %.40r: %s", self.mapped.id, point.name, text, exc
            )
            return str(exc)
        return ""

    async def _has_already(
        self, driver: Driver[Any, Any], point: Point[Any], rule: ModelProperty, text: str
    ) -> bool:
        """Tell whether the device says `text` already: after a restart nothing is switched for nothing."""
        if not driver.polls:
            return False
        value = (await driver.read([point])).get(point.name)
        if value is None or isinstance(value, PointFault):
            return False
        try:
            return same_value(rule, text_of(self.mapped.id, rule, value), text)
        except DeviceModelError:
            return False

    def _point(self, name: str, config: Mapping[str, Any]) -> Point[Any]:
        place = f"spec.properties[{name}].visitors.configData"
        settings = typed(self.mapped.id, place, self._driver_type.PointConfig, config)
        mapped_type = self.types[name]
        return Point(name, mapped_type.type, mapped_type.access_mode != "ReadOnly", settings)


def is_config_error(exc: BaseException) -> bool:
    """Tell whether a device cannot be driven until somebody changes its object."""
    return isinstance(exc, DeviceError) and not exc.retryable
