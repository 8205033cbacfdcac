"""A driver made as the process around it makes it: configuration checked, points typed."""

import contextlib

from mappers.sdk import Point
from mappers.sdk.schema import typed

DEVICE = "default/peer"


@contextlib.asynccontextmanager
async def driving(driver_type, config, points):
    """Open a driver. Shapes: points: name -> (type, configData)."""
    made = [
        Point(name, kind, True, typed(DEVICE, name, driver_type.PointConfig, data))
        for name, (kind, data) in points.items()
    ]
    driver = driver_type(DEVICE, typed(DEVICE, "config", driver_type.Config, config), made)
    try:
        await driver.open()
        yield driver
    finally:
        await driver.close()


async def read_all(driver):
    return await driver.read(list(driver.points.values()))
