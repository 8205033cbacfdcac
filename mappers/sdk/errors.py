"""The errors of drivers and of the process around them."""

from __future__ import annotations

from corekit.errors import DeviceError, EdgeError, TransportError


class DeviceUnreachableError(DeviceError):
    """The device does not answer: it counts as offline, and is tried again with a growing delay."""

    retryable = True


class WriteRefusedError(DeviceError):
    """The device is there and does not take a value; `problem` is for people."""

    def __init__(self, device: str, problem: str) -> None:
        self.problem = problem
        super().__init__(device, problem)


class DriverConfigError(DeviceError):
    """The configData of a device or a property does not fit the driver's schema; the message names the field."""


class EdgeLostError(TransportError):
    """edgecore does not answer on its socket."""


class DriverFailedError(EdgeError):
    """A driver did what none may do; like any other exception of it, it is its own device's fault."""
