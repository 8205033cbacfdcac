"""Devices with passwords on real brokers: each its own topics, and nobody speaks for another."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from edgecore.eventbus.access_cli import write_files
from edgecore.eventbus.broker import EmbeddedBroker
from edgecore.eventbus.bus import EventBus
from edgecore.settings import BrokerSettings
from tests.fakes.mqtt import free_port, mosquitto, wait_listening

pytestmark = pytest.mark.timeout(30)
PREFIX = "$hw/events/device/default/{}"
LAMP, FAN = "default/lamp-01", "default/fan-01"


@asynccontextmanager
async def guarded(kind, folder):
    """Run a broker with two devices and the agent's bus on it; yield the port, the bus and the passwords."""
    files, port = folder / "access", free_port()
    write_files(files, [LAMP, FAN])
    words = dict(line.split() for line in (files / "secrets").read_text().splitlines())
    for name in ("passwords", "mosquitto.acl"):
        (files / name).chmod(0o644)
    if kind == "embedded":
        settings = BrokerSettings(
            embedded_address=f"127.0.0.1:{port}", password_file=str(files / "passwords")
        )
        component = EmbeddedBroker(settings)
        broker = asyncio.create_task(component.run())
        await wait_listening(port)
        try:
            async with with_bus(settings) as bus:
                yield port, bus, words
        finally:
            broker.cancel()
            await asyncio.wait([broker])
    else:
        lines = (
            "allow_anonymous false",
            f"password_file {files / 'passwords'}",
            f"acl_file {files / 'mosquitto.acl'}",
            "use_username_as_clientid true",
        )
        async with mosquitto(port, folder, *lines):
            agent = words["armadillo-edge"]
            settings = BrokerSettings(url=f"mqtt://armadillo-edge:{agent}@127.0.0.1:{port}")
            async with with_bus(settings) as bus:
                yield port, bus, words


@asynccontextmanager
async def with_bus(settings):
    bus = EventBus(settings, "edge-1")
    task = asyncio.create_task(bus.run())
    try:
        assert (await bus.receive()).connected
        yield bus
    finally:
        task.cancel()
        await asyncio.wait([task])


def client(port, words, user, **more):
    return aiomqtt.Client("127.0.0.1", port, username=user, password=words.get(user, "x"), **more)


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_a_device_speaks_for_itself_and_for_nobody_else(kind, tmp_path):
    async with guarded(kind, tmp_path) as (port, bus, words), client(port, words, LAMP) as lamp:
        for name in ("fan-01", "lamp-01"):
            await lamp.publish(PREFIX.format(name) + "/twin/get", b"{}", qos=1)
        (message,) = (await bus.receive()).messages
        assert message.topic == PREFIX.format("lamp-01") + "/twin/get"


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_a_device_hears_what_is_its_own_and_nothing_else(kind, tmp_path):
    async with guarded(kind, tmp_path) as (port, bus, words), client(port, words, LAMP) as lamp:
        await lamp.subscribe(PREFIX.format("lamp-01") + "/#", qos=1)
        await lamp.subscribe("$hw/#", qos=1)
        await lamp.subscribe(PREFIX.format("fan-01") + "/#", qos=1)
        assert bus.publish(PREFIX.format("fan-01") + "/twin/update/delta", b"fan")
        assert bus.publish(PREFIX.format("lamp-01") + "/twin/update/delta", b"lamp")
        assert (await anext(lamp.messages)).payload == b"lamp"


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
async def test_a_last_will_cannot_speak_for_another_device(kind, tmp_path):
    async with guarded(kind, tmp_path) as (port, bus, words):
        for name in ("fan-01", "lamp-01"):
            will = aiomqtt.Will(PREFIX.format(name) + "/state/update", b"{}", qos=1)
            lamp = client(port, words, LAMP, will=will)
            await lamp.__aenter__()
            lamp._client._sock_close()  # as when the power goes
            with contextlib.suppress(aiomqtt.MqttError):
                await lamp.__aexit__(None, None, None)
        (message,) = (await bus.receive()).messages
        assert message.topic == PREFIX.format("lamp-01") + "/state/update"


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize("user", [LAMP, "default/nobody", None])
async def test_who_has_no_password_stays_outside(kind, tmp_path, user):
    async with guarded(kind, tmp_path) as (port, _, _words):
        with pytest.raises(aiomqtt.MqttError):
            async with client(port, {}, user):
                pass


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize("clean", [True, False])
async def test_two_devices_with_one_client_id_do_not_disturb_each_other(kind, clean, tmp_path):
    same = {"identifier": "shared", "clean_session": clean}
    async with guarded(kind, tmp_path) as (port, bus, words):
        async with client(port, words, LAMP, **same) as lamp:
            await lamp.subscribe(PREFIX.format("lamp-01") + "/#", qos=1)
            async with client(port, words, FAN, **same) as fan:
                await fan.subscribe(PREFIX.format("fan-01") + "/#", qos=1)
                for name, device in (("lamp-01", lamp), ("fan-01", fan)):
                    assert bus.publish(PREFIX.format(name) + "/twin/update/delta", name.encode())
                    assert (await anext(device.messages)).payload == name.encode()


@pytest.mark.parametrize("kind", ["mosquitto", "embedded"])
@pytest.mark.parametrize("user", ["default/nobody", "armadillo-edge", FAN])
async def test_a_stranger_neither_ends_a_session_nor_takes_its_rights(kind, user, tmp_path):
    """A greeting with a wrong password, another's client id, and a user who may do more than that session."""
    keep = {"identifier": "shared", "clean_session": False}
    async with (
        guarded(kind, tmp_path) as (port, bus, words),
        client(port, words, LAMP, **keep) as lamp,
    ):
        with pytest.raises(aiomqtt.MqttError):
            async with client(port, {}, user, **keep):
                pass
        for name in ("fan-01", "lamp-01"):
            await lamp.publish(PREFIX.format(name) + "/twin/get", b"{}", qos=1)
        (message,) = (await bus.receive()).messages
        assert message.topic == PREFIX.format("lamp-01") + "/twin/get"


async def test_a_session_is_kept_for_its_own_device(tmp_path):
    async with guarded("embedded", tmp_path) as (port, bus, words):
        keep = {"identifier": "shared", "clean_session": False}
        async with client(port, words, LAMP, **keep) as lamp:
            await lamp.subscribe(PREFIX.format("lamp-01") + "/#", qos=1)
        async with client(port, words, FAN, **keep):
            assert bus.publish(PREFIX.format("lamp-01") + "/twin/update/delta", b"lamp")
        async with client(port, words, LAMP, **keep) as lamp:
            assert (await anext(lamp.messages)).payload == b"lamp"
