"""`Driver`: what is written for one kind of device. It knows the device's protocol and nothing of twins or edgecore."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import msgspec

Value = int | float | bool | str | bytes


@dataclass(frozen=True, slots=True)
class PointFault:
    """Why one point has no value now, where the others have."""

    reason: str


# Takes name of the point -> its value, whenever the device has said something.
Report = Callable[[Mapping[str, Value | PointFault]], None]


class NoConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The schema of a driver that has nothing to configure."""


C = TypeVar("C", bound=msgspec.Struct)  # of the device: spec.protocol.configData
P = TypeVar("P", bound=msgspec.Struct)  # of a property: visitors.configData


@dataclass(frozen=True, slots=True)
class Point(Generic[P]):
    """One property of the device, as the driver sees it.

    Shapes:  type: as in the device model (INT, DOUBLE, BOOLEAN, STRING, …); config: the property's own settings.
    """

    name: str
    type: str
    writable: bool
    config: P


class Driver(Generic[C, P]):
    """One connected device. A subclass names two schemas and has three methods; everything else is optional.

    `open`, `read` and `write` are called one at a time, each with a deadline of 30 seconds.

    `Config` and `PointConfig` are `msgspec.Struct` types: fields that are missing, unknown or of a wrong type are
    refused with one line on the device, before the driver is made.
    """

    Config: ClassVar[type[msgspec.Struct]] = NoConfig
    PointConfig: ClassVar[type[msgspec.Struct]] = NoConfig
    # A driver whose devices speak by themselves sets this to False, and overrides `listen`.
    polls: ClassVar[bool] = True

    def __init__(self, device: str, config: C, points: Sequence[Point[P]]) -> None:
        """Keep what is given. Shapes: device: "namespace/name"."""
        self.device, self.config = device, config
        self.points = {point.name: point for point in points}

    async def open(self) -> None:
        """Connect. Raises: DeviceUnreachableError."""

    async def read(self, points: Sequence[Point[P]]) -> Mapping[str, Value | PointFault]:
        """Return the values of `points` by name, as many as can be had at once.

        Raises:  DeviceUnreachableError: nothing can be read; `open` is called again after a while.
        """
        raise NotImplementedError

    async def write(self, point: Point[P], value: Value) -> None:
        """Set a point; return once the device has taken it.

        Raises:  WriteRefusedError: it does not take this value. DeviceUnreachableError.
        """
        raise NotImplementedError

    async def listen(self, report: Report) -> None:  # noqa: ARG002  # an empty default
        """Wait for what the device says by itself, and `report` it; serve until cancelled.

        Raises:  DeviceUnreachableError: the device, or what carries its messages, is lost.
        """
        await asyncio.Event().wait()

    @classmethod
    def forget(cls, device: str) -> None:
        """Drop what is kept of a device ("namespace/name") beyond its driver: it was deleted. Must not raise."""

    async def close(self) -> None:
        """Let go of the connection; must not raise."""
