"""The Modbus driver against a Modbus server in another process."""

import asyncio
import contextlib
import os
import sys
import tty

import pytest

from mappers.drivers.modbus import MAX_WORDS, ModbusDriver, spans
from mappers.sdk import DeviceUnreachableError, Point, PointFault, WriteRefusedError
from mappers.sdk.errors import DriverConfigError
from mappers.sdk.schema import typed
from tests.mappers.conftest import PEERS
from tests.mappers.driving import DEVICE, driving, read_all

pytestmark = pytest.mark.timeout(90)


def config(port):
    return {"host": "127.0.0.1", "port": port}


async def test_registers_of_every_kind_are_read_and_transformed(modbus_port):
    points = {
        "celsius": ("DOUBLE", {"register": "input", "address": 0, "scale": 0.1}),
        "signed": ("INT", {"register": "input", "address": 1}),
        "unsigned": ("INT", {"register": "input", "address": 1, "dataType": "uint16"}),
        "float": ("DOUBLE", {"register": "input", "address": 10, "dataType": "float32"}),
        "label": (
            "STRING",
            {"register": "input", "address": 12, "dataType": "string", "length": 4},
        ),
        "nibble": ("INT", {"register": "holding", "address": 5, "mask": 0xF0}),
        "coil": ("BOOLEAN", {"register": "coil", "address": 2}),
        "contact": ("BOOLEAN", {"register": "discrete", "address": 3}),
    }
    async with driving(ModbusDriver, config(modbus_port), points) as driver:
        assert await read_all(driver) == {
            "celsius": 21.5,
            "signed": -1,
            "unsigned": 65535,
            "float": 21.5,
            "label": "Hi!",
            "nibble": 15,
            "coil": True,
            "contact": True,
        }


async def test_what_is_written_is_read_and_bits_outside_the_mask_stay(modbus_port):
    points = {
        "level": ("DOUBLE", {"address": 20, "scale": 0.5, "offset": -10}),
        "wide": ("INT", {"address": 22, "dataType": "int32", "wordOrder": "little"}),
        "low": ("INT", {"address": 30, "mask": 0x000F}),
        "high": ("INT", {"address": 30, "mask": 0x0F00}),
        "relay": ("BOOLEAN", {"register": "coil", "address": 9}),
    }
    async with driving(ModbusDriver, config(modbus_port), points) as driver:
        values = {"level": 12.5, "wide": -70000, "low": 9, "high": 3, "relay": True}
        for name, value in values.items():
            await driver.write(driver.points[name], value)
        assert await read_all(driver) == values


async def test_a_point_that_the_device_does_not_have_is_that_points_fault_alone(modbus_port):
    points = {
        "good": ("INT", {"address": 195}),
        "beyond": ("INT", {"address": 203}),
    }
    async with driving(ModbusDriver, config(modbus_port), points) as driver:
        values = await read_all(driver)
        assert values["good"] == 0
        assert isinstance(values["beyond"], PointFault)
        with pytest.raises(WriteRefusedError, match="holding 203"):
            await driver.write(driver.points["beyond"], 1)


async def test_nobody_there_is_unreachable():
    with pytest.raises(DeviceUnreachableError, match="127.0.0.1:1 does not answer"):
        async with driving(ModbusDriver, {"host": "127.0.0.1", "port": 1}, {}):
            pass


def point(name, address, **more):
    config = typed(DEVICE, name, ModbusDriver.PointConfig, {"address": address, **more})
    return Point(name, "INT", True, config)


def test_neighbours_share_a_request_up_to_the_gap_and_the_protocols_limit():
    points = [point("a", 0), point("b", 4), point("c", 20), point("d", 20 + MAX_WORDS)]
    found = [(s.address, s.count, [p.name for p in s.points]) for s in spans(points, gap=8)]
    assert found == [(0, 5, ["a", "b"]), (20, 1, ["c"]), (20 + MAX_WORDS, 1, ["d"])]


def test_kinds_of_registers_do_not_share_a_request():
    points = [point("a", 0), point("b", 1, register="input"), point("c", 2, register="coil")]
    assert len(list(spans(points, gap=8))) == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"adress": 1}, "adress"),
        ({"address": 70000}, "address 70000 is outside 0 to 65535"),
        ({"address": 1, "dataType": "string"}, "needs a length"),
        ({"address": "one"}, "address"),
    ],
)
def test_a_wrong_point_is_refused_in_one_line_that_names_it(data, words):
    with pytest.raises(DriverConfigError, match=words) as caught:
        typed(DEVICE, "spec.properties[a].visitors.configData", ModbusDriver.PointConfig, data)
    assert DEVICE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tcp_and_serial_at_once_is_refused():
    both = {"host": "h", "serialPort": "/dev/ttyS0"}
    with pytest.raises(DriverConfigError, match="exactly one of host"):
        typed(DEVICE, "spec.protocol.configData", ModbusDriver.Config, both)


async def test_a_unit_on_a_serial_line_is_read_and_written():
    """RTU, over a pair of pseudo terminals."""
    async with serial_line() as port:
        points = {"a": ("INT", {"address": 0}), "b": ("INT", {"address": 1, "scale": 2})}
        data = {"serialPort": port, "baudRate": 19200, "unit": 1}
        async with driving(ModbusDriver, data, points) as driver:
            assert await read_all(driver) == {"a": 42, "b": 0}
            await driver.write(driver.points["b"], 14)
            assert await read_all(driver) == {"a": 42, "b": 14}


@contextlib.asynccontextmanager
async def serial_line():
    """Give a serial port at whose other end a Modbus server answers."""
    masters, ports = [], []
    for _ in range(2):
        master, slave = os.openpty()
        tty.setraw(slave)
        masters.append(master)
        ports.append((os.ttyname(slave), slave))
    loop = asyncio.get_running_loop()
    for one, other in (masters, masters[::-1]):
        loop.add_reader(one, lambda one=one, other=other: os.write(other, os.read(one, 1024)))
    server = await asyncio.create_subprocess_exec(
        sys.executable, str(PEERS / "modbus_server.py"), ports[0][0], stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await server.stdout.readline() == b"listening\n"
        yield ports[1][0]
    finally:
        server.kill()
        await server.wait()
        for master, (_, slave) in zip(masters, ports, strict=True):
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)
