"""The OPC UA driver against an OPC UA server in another process."""

import pytest

from mappers.drivers.opcua import OpcuaDriver
from mappers.sdk import DeviceUnreachableError, PointFault, WriteRefusedError
from mappers.sdk.errors import DriverConfigError
from mappers.sdk.schema import typed
from tests.mappers.driving import DEVICE, driving, read_all

# asyncua closes its transports a moment after it has said so.
pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore::ResourceWarning")]

POINTS = {
    "temperature": ("DOUBLE", {"nodeId": "ns=2;s=Temperature", "scale": 10}),
    "level": ("INT", {"nodeId": "ns=2;s=Level"}),
    "name": ("STRING", {"nodeId": "ns=2;s=Name"}),
}


async def test_nodes_are_read_at_once_and_written_in_their_own_type(opcua_port):
    config = {"url": f"opc.tcp://127.0.0.1:{opcua_port}/"}
    async with driving(OpcuaDriver, config, POINTS) as driver:
        assert await read_all(driver) == {"temperature": 715.0, "level": 3, "name": "north"}
        await driver.write(driver.points["level"], 7)
        assert (await read_all(driver))["level"] == 7
        await driver.write(driver.points["level"], 3)


async def test_a_missing_node_is_its_own_fault_and_a_read_only_one_refuses(opcua_port):
    config = {"url": f"opc.tcp://127.0.0.1:{opcua_port}/"}
    points = {**POINTS, "gone": ("INT", {"nodeId": "ns=2;s=Gone"})}
    async with driving(OpcuaDriver, config, points) as driver:
        values = await read_all(driver)
        assert isinstance(values["gone"], PointFault)
        assert values["level"] == 3
        with pytest.raises(WriteRefusedError, match="Temperature"):
            await driver.write(driver.points["temperature"], 10.0)


async def test_nobody_there_is_unreachable():
    with pytest.raises(DeviceUnreachableError):
        async with driving(OpcuaDriver, {"url": "opc.tcp://127.0.0.1:1/"}, {}):
            pass


def test_what_is_no_node_id_is_refused():
    with pytest.raises(DriverConfigError, match="nodeId"):
        typed(DEVICE, "spec", OpcuaDriver.PointConfig, {"nodeId": "seven"})
