"""The MQTT driver against a real mosquitto."""

import asyncio
import contextlib
import json

import aiomqtt
import pytest

from mappers.drivers.mqtt import MqttDriver
from mappers.sdk import DeviceUnreachableError, PointFault, WriteRefusedError
from mappers.sdk.errors import DriverConfigError
from mappers.sdk.schema import typed
from tests.fakes.mqtt import free_port, mosquitto
from tests.fakes.waiting import eventually
from tests.mappers.driving import DEVICE, driving

pytestmark = pytest.mark.timeout(90)

POINTS = {
    "celsius": ("DOUBLE", {"topic": "boiler/tele", "path": "ds[1].t", "scale": 0.1}),
    "level": ("INT", {"topic": "boiler/+/level", "writeTopic": "boiler/set", "retain": True}),
    "low": ("INT", {"topic": "boiler/1/level", "mask": 0x0F}),
    "pump": (
        "BOOLEAN",
        {"topic": "boiler/pump", "writeTopic": "boiler/pump/set", "writeTemplate": '{"on":{json}}'},
    ),
    "label": ("STRING", {"topic": "boiler/label"}),
    "silent": ("INT", {}),
}


@pytest.fixture
async def port(tmp_path):
    number = free_port()
    async with mosquitto(number, tmp_path):
        yield number


@contextlib.asynccontextmanager
async def listening(port, points=POINTS):
    """Give an open driver and what it has reported: name -> newest."""
    said = {}
    async with driving(MqttDriver, {"url": f"mqtt://127.0.0.1:{port}"}, points) as driver:
        task = asyncio.create_task(driver.listen(said.update))
        try:
            yield driver, said
        finally:
            task.cancel()
            await asyncio.wait([task])


async def publish(port, *messages):
    async with aiomqtt.Client("127.0.0.1", port) as client:
        for topic, payload in messages:
            await client.publish(topic, payload, qos=1)


async def test_what_a_device_says_is_picked_and_transformed(port):
    async with listening(port) as (_, said):
        tele = json.dumps({"ds": [{"t": 1}, {"t": 215}]})
        await publish(
            port,
            ("boiler/tele", tele), ("boiler/1/level", "179"),
            ("boiler/pump", "ON"), ("boiler/label", "Kessel 3"),
        )  # fmt: skip
        await eventually(lambda: "label" in said)
        assert said == {
            "celsius": 21.5, "level": 179, "low": 3, "pump": True, "label": "Kessel 3",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "payload", "name", "words"),
    [
        ("boiler/tele", b"\xff{", "celsius", "no JSON"),
        ("boiler/tele", b'{"ds": 1}', "celsius", "no 1 where"),
        ("boiler/tele", b'{"ds": [0, {"t": 1' + b"0" * 400 + b"}]}", "celsius", "is no DOUBLE"),
        ("boiler/1/level", b"full", "level", "'full' is no INT"),
        ("boiler/pump", b"perhaps", "pump", "is no BOOLEAN"),
    ],
)
async def test_a_payload_that_makes_no_sense_is_that_propertys_fault_alone(
    port, topic, payload, name, words
):
    async with listening(port) as (_, said):
        await publish(port, (topic, payload), ("boiler/label", "still here"))
        await eventually(lambda: said.get("label") == "still here")
        assert isinstance(said[name], PointFault)
        assert words in said[name].reason


async def test_what_is_desired_is_published_as_the_template_says(port):
    async with listening(port) as (driver, _), aiomqtt.Client("127.0.0.1", port) as device:
        await device.subscribe("boiler/pump/set", qos=1)
        await driver.write(driver.points["pump"], True)
        await driver.write(driver.points["level"], 7)
        message = await anext(device.messages)
        assert (str(message.topic), message.payload) == ("boiler/pump/set", b'{"on":true}')
        await device.subscribe("boiler/set", qos=1)  # afterwards: it was to be kept
        message = await anext(device.messages)
        assert (message.payload, message.retain) == (b"7", True)


@pytest.mark.parametrize(("name", "value"), [("silent", 1), ("low", 16)])
async def test_what_cannot_be_written_is_refused(port, name, value):
    async with listening(port) as (driver, _):
        with pytest.raises(WriteRefusedError, match=DEVICE):
            await driver.write(driver.points[name], value)


async def test_a_lost_broker_is_unreachable_and_its_return_is_used(tmp_path):
    port = free_port()
    with pytest.raises(DeviceUnreachableError, match="broker 127.0.0.1"):
        async with driving(MqttDriver, {"url": f"mqtt://127.0.0.1:{port}"}, POINTS):
            pass
    async with driving_until_lost(port, tmp_path) as lost:
        with pytest.raises(DeviceUnreachableError, match="broker 127.0.0.1"):
            await lost
    async with mosquitto(port, tmp_path), listening(port) as (_, said):
        await publish(port, ("boiler/label", "back"))
        await eventually(lambda: said.get("label") == "back")


@contextlib.asynccontextmanager
async def driving_until_lost(port, folder):
    """Give a listening driver's task after its broker has gone."""
    async with contextlib.AsyncExitStack() as broker:
        await broker.enter_async_context(mosquitto(port, folder))
        async with driving(MqttDriver, {"url": f"mqtt://127.0.0.1:{port}"}, POINTS) as driver:
            task = asyncio.create_task(driver.listen(lambda _: None))
            await broker.aclose()
            yield task


@pytest.mark.parametrize(
    ("schema", "data", "words"),
    [
        ("Config", {"url": "http://h"}, "is not mqtt://host"),
        ("Config", {"url": "mqtt://h:99999"}, "Port out of range"),
        ("Config", {"url": "mqtt://h", "qos": 3}, "qos"),
        ("PointConfig", {"topic": "a/#/b"}, "Invalid wildcard"),
        ("PointConfig", {"writeTopic": "a/+"}, "Invalid topic"),
        ("PointConfig", {"topic": "a", "path": "a..b"}, "not understood"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_dialled(schema, data, words):
    with pytest.raises(DriverConfigError, match=words):
        typed(DEVICE, "place", getattr(MqttDriver, schema), data)
