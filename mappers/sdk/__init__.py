"""What a driver of leaf devices is written with: `Driver`, `Point`, and the errors it may raise.

    from mappers.sdk import Driver, Point

A driver is one class; the rest (registration at edgecore, timing, back-off, reports, desired values, transforms) is
done by the process around it. docs/mappers.md takes a reader from nothing to a running driver.
"""

from mappers.sdk.driver import Driver, Point, PointFault, Report, Value
from mappers.sdk.errors import DeviceUnreachableError, WriteRefusedError

__all__ = [
    "DeviceUnreachableError",
    "Driver",
    "Point",
    "PointFault",
    "Report",
    "Value",
    "WriteRefusedError",
]
