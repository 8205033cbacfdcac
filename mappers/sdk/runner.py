"""One device: connect, poll or listen, write what is desired, report; until cancelled or reconfigured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from corekit.backoff import Backoff
from corekit.errors import DeviceError
from corekit.lifecycle import apart
from corekit.logs import RepeatedFault
from devicemodels.dmi import MappedDevice, MappedType
from devicemodels.objects import ModelProperty
from devicemodels.values import DeviceModelError, same_value
from mappers.sdk.driver import Driver, Point, PointFault, Value
from mappers.sdk.errors import DeviceUnreachableError, DriverFailedError, WriteRefusedError
from mappers.sdk.schedule import Schedule
from mappers.sdk.schema import typed
from mappers.sdk.values import model_property, reading_of, text_of, value_of

logger = logging.getLogger(__name__)

ONLINE, OFFLINE, UNHEALTHY = "online", "offline", "unhealthy"
BACKOFF_S = (0.5, 30.0)
# A driver that hangs is no better than one that says that its device is unreachable.
CALL_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 5.0

T = TypeVar("T")


class Reports(Protocol):
    """Where values go; never waits."""

    def read(self, device: str, prop: str, value: float | str) -> None:
        """Take a reading: a number where the property's type is one, else its text."""

    def observe(self, device: str, prop: str, value: str, error: str = "") -> None:
        """Take what became of a desired value."""

    def state(self, device: str, state: str) -> None:
        """Take the device's state."""

    def forget(self, device: str) -> None:
        """Drop what waits of a device that is gone."""


class Settled(NamedTuple):
    """A desired value that the device has taken, or, with `error`, has refused."""

    text: str
    error: str


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
        self._settled: dict[str, Settled] = {}
        self._one_call = asyncio.Lock()  # most protocols cannot read and write at once
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
        # What is still asked for has not been heard: it is told again, and not written again.
        for name, text in wanted.items():
            if (settled := self._settled.get(name)) and settled.text == text:
                self._reports.observe(mapped.id, name, text, settled.error)
        self._wanted = wanted
        self._to_write.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            driver = self._driver_type(self.mapped.id, self._config, self._points)
            try:
                await self._ask(driver.open())
                self._reports.state(self.mapped.id, ONLINE)
                self._fault.cleared()
                await apart(self._serve(driver))
            except* (DeviceUnreachableError, TimeoutError, OSError) as group:
                self._reports.state(self.mapped.id, OFFLINE)
                self._fault.failed(_problem(group.exceptions[0]))
            finally:
                await self._close(driver)
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _close(self, driver: Driver[Any, Any]) -> None:
        try:
            await _own(driver.close(), CLOSE_TIMEOUT_S)
        except Exception:  # somebody else's code: nothing depends on it any more
            logger.exception("device %s: its driver failed to close", self.mapped.id)

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what the driver says; one call at a time."""
        async with self._one_call:
            return await _own(call, CALL_TIMEOUT_S)

    async def _serve(self, driver: Driver[Any, Any]) -> None:
        self._to_write.set()
        async with asyncio.TaskGroup() as group:
            if driver.polls:
                group.create_task(self._poll(driver))
            group.create_task(_own(driver.listen(self._take), None))
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
            # Without properties nothing is ever due, and no event loop takes "never" as a time.
            async with asyncio.timeout(None if rest_s == float("inf") else max(rest_s, 0.001)):
                await self._read_soon.wait()
            self._read_soon.clear()
        except TimeoutError:
            return

    async def _read(self, driver: Driver[Any, Any], names: set[str]) -> None:
        points = [point for point in self._points if point.name in names]
        if points:
            self._take(await self._ask(driver.read(points)))

    def _take(self, values: Mapping[str, Value | PointFault]) -> None:
        """Report what the device said."""
        self._backoff.reset()
        for name, value in values.items():
            if (rule := self._rules.get(name)) is None:
                continue
            if isinstance(value, PointFault):
                self._point_failed(name, value.reason)
                continue
            if not isinstance(value, Value):
                self._point_failed(
                    name, f"its driver says a {type(value).__name__}, which is no value"
                )
                continue
            try:
                self._reports.read(self.mapped.id, name, reading_of(self.mapped.id, rule, value))
            except DeviceModelError as exc:
                self._point_failed(name, exc)
                continue
            if (fault := self._point_faults.get(name)) is not None:
                fault.cleared()

    def _point_failed(self, name: str, problem: object) -> None:
        fault = self._point_faults.get(name)
        if fault is None:
            fault = RepeatedFault(logger, f"device {self.mapped.id}: property {name}")
            self._point_faults[name] = fault
        fault.failed(problem)

    async def _write(self, driver: Driver[Any, Any]) -> None:
        points = {point.name: point for point in self._points}
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            for name, text in list(self._wanted.items()):
                settled = self._settled.get(name)
                if (settled is None or settled.text != text) and name in points:
                    error = await self._write_one(driver, points[name], text)
                    self._settled[name] = Settled(text, error)
                    self._reports.observe(self.mapped.id, name, text, error)
                    self._schedule.soon(name)
                    self._read_soon.set()

    async def _write_one(self, driver: Driver[Any, Any], point: Point[Any], text: str) -> str:
        """Bring one point to `text`; return why the device refuses, "" if it does not."""
        rule = self._rules[point.name]
        try:
            value = value_of(self.mapped.id, rule, text)
            if not await self._has_already(driver, point, rule, text):
                await self._ask(driver.write(point, value))
        except (WriteRefusedError, DeviceModelError) as exc:
            logger.warning(
                "device %s: property %s refuses %.40r: %s",
                self.mapped.id,
                point.name,
                text,
                exc.problem,
            )
            return exc.problem
        return ""

    async def _has_already(
        self, driver: Driver[Any, Any], point: Point[Any], rule: ModelProperty, text: str
    ) -> bool:
        """Tell whether the device says `text` already: after a restart nothing is switched for nothing."""
        if not driver.polls:
            return False
        value = (await self._ask(driver.read([point]))).get(point.name)
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


async def _own(call: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    """Return what a driver's call returns; what would end more than its own device comes out as an error.

    Raises:  DriverFailedError: it wanted to end the process, or cancelled itself. TimeoutError, and what it raises.
    """
    task = asyncio.current_task()
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except SystemExit as exc:
        raise DriverFailedError(f"its driver wanted to end the process: {exc!r}") from exc
    except asyncio.CancelledError as exc:
        if task is not None and task.cancelling():
            raise
        raise DriverFailedError("its driver cancelled itself") from exc


def _problem(exc: BaseException) -> object:
    """Return what is wrong, without the device: whoever says it names that."""
    return exc.problem if isinstance(exc, DeviceError) else exc
