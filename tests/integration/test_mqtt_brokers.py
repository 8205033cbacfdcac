"""The bus and the embedded broker against real peers: acknowledgement, refusal, loss, floods."""

import asyncio
import logging

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgecore.eventbus.broker import EmbeddedBroker
from edgecore.eventbus.bus import EventBus
from edgecore.eventbus.inbox import CROWDED_BYTES
from edgecore.settings import BrokerSettings
from tests.fakes.mqtt import (
    broker,
    embedded,
    flood,
    free_port,
    mosquitto,
    settings_for,
    wait_listening,
)

pytestmark = pytest.mark.timeout(20)
TOPIC = "$hw/events/device/default/lamp-01/twin/update"


@pytest.fixture(params=["mosquitto", "embedded"])
def kind(request):
    return request.param


class Running:
    """A bus that runs until left."""

    def __init__(self, settings):
        self.bus = EventBus(settings, "edge-1")

    async def __aenter__(self):
        self._task = asyncio.create_task(self.bus.run())
        return self.bus

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_broker_that_is_down_is_said_once_and_found_when_it_comes(kind, tmp_path, caplog):
    port = free_port()
    with caplog.at_level(logging.INFO):
        async with Running(settings_for(kind, port)) as bus:
            while sum("trying again" in r.message for r in caplog.records) < 1:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert not bus.publish("t", b"")
            async with broker(kind, port, tmp_path):
                assert (await bus.receive()).connected
                records = list(caplog.records)  # its going away is another fault
    said = [r.levelname for r in records if f"127.0.0.1:{port}: " in r.getMessage()]
    assert said.count("WARNING") == 1


async def test_messages_come_in_and_go_out(kind, tmp_path):
    port = free_port()
    async with broker(kind, port, tmp_path) as settings, Running(settings) as bus:
        assert (await bus.receive()).connected
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("$hw/#", qos=1)
            await client.publish(TOPIC, b"\x00\xff", qos=1)
            (message,) = (await bus.receive()).messages
            assert (message.topic, message.payload) == (TOPIC, b"\x00\xff")
            message.acknowledge()
            assert bus.publish("$hw/events/answer", b"yes")
            seen = [(await anext(client.messages)).payload for _ in range(2)]
            assert sorted(seen) == [b"\x00\xff", b"yes"]


async def test_a_message_that_was_not_acknowledged_comes_again(tmp_path):
    port = free_port()
    async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port) as client:
        settings = settings_for("mosquitto", port)
        async with Running(settings) as bus:
            await bus.receive()
            for payload in (b"done", b"lost"):
                await client.publish(TOPIC, payload, qos=1)
            taken = []
            while len(taken) < 2:
                taken += (await bus.receive()).messages
            taken[0].acknowledge()
            await asyncio.sleep(0.1)
        async with Running(settings) as bus:
            again = []
            while not again:
                again += (await bus.receive()).messages
            assert [message.payload for message in again] == [b"lost"]
            taken[1].acknowledge()  # of the connection that is gone: nothing happens


async def test_a_device_of_mqtt_5_may_say_more_than_we_read(tmp_path):
    port = free_port()
    more = Properties(PacketTypes.PUBLISH)
    more.ContentType, more.UserProperty = "application/json", ("by", "x" * 200)
    async with mosquitto(port, tmp_path), Running(settings_for("mosquitto", port)) as bus:
        assert (await bus.receive()).connected
        async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            for qos in (0, 1, 2):
                await client.publish(TOPIC, b"%d" % qos, qos=qos, properties=more)
        taken = []
        while len(taken) < 3:
            taken += (await bus.receive()).messages
        assert [(m.topic, m.payload) for m in taken] == [
            (TOPIC, b"0"),
            (TOPIC, b"1"),
            (TOPIC, b"2"),
        ]
        assert [bool(m.message_id) for m in taken] == [False, True, True]


async def test_what_nobody_takes_waits_at_the_broker_and_nothing_is_lost(tmp_path):
    port, count = free_port(), 3 * (CROWDED_BYTES >> 12)
    limits = ("allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0")
    async with (
        mosquitto(port, tmp_path, *limits),
        Running(settings_for("mosquitto", port)) as bus,
    ):
        assert (await bus.receive()).connected
        devices = [f"$hw/events/device/n/d{number}/values" for number in range(10)]
        await flood(port, [(devices[n % 10], b"%d " % n + bytes(4096)) for n in range(count)])
        taken = []
        while len(taken) < count:
            messages = (await bus.receive(100)).messages
            taken += [int(message.payload.partition(b" ")[0]) for message in messages]
            for message in messages:
                message.acknowledge()
            assert bus.waiting_bytes < 2 * CROWDED_BYTES
        assert sorted(taken) == list(range(count))


async def test_a_broker_that_sends_no_mqtt_is_left_and_what_it_sent_is_said(caplog):
    connected = asyncio.Event()

    async def serve(reader, writer):
        await reader.read(1024)
        writer.write(b"\x20\x03\x00\x00\x00")
        subscribe = await reader.read(1024)
        writer.write(b"\x90\x08" + subscribe[3:5] + b"\x00\x01\x01\x01\x01\x01")
        await connected.wait()
        writer.write(b"\x36\x00")
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with caplog.at_level(logging.WARNING):
        async with server, Running(settings_for("mosquitto", port)) as bus:
            assert (await bus.receive()).connected
            connected.set()
            while not any("a QoS that was not asked for" in r.getMessage() for r in caplog.records):
                await asyncio.sleep(0.01)


async def test_user_and_password_are_used_and_a_refusal_is_said(tmp_path, caplog):
    port, passwords = free_port(), tmp_path / "passwords"
    made = await asyncio.create_subprocess_exec(
        "mosquitto_passwd", "-b", "-c", str(passwords), "me", "secret"
    )
    await made.wait()
    passwords.chmod(0o644)
    async with mosquitto(port, tmp_path, f"password_file {passwords}", "allow_anonymous false"):
        url = f"mqtt://me:{{}}@127.0.0.1:{port}"
        good = BrokerSettings(url=url.format("secret"), reconnect_max_s=0.1)
        async with Running(good) as bus:
            assert (await bus.receive()).connected
        with caplog.at_level(logging.WARNING):
            wrong = BrokerSettings(url=url.format("guess"), reconnect_max_s=0.1)
            async with Running(wrong):
                while not any("ot authori" in r.getMessage() for r in caplog.records):
                    await asyncio.sleep(0.01)
    assert not any("guess" in r.getMessage() for r in caplog.records)


async def serve_mqtt_3(reader, writer):
    """Greet as a broker that knows MQTT 3.1.1 only, and grant one subscription packet."""
    greeting = await reader.read(1024)
    refused = greeting[greeting.index(b"MQTT") + 4] != 4
    writer.write(b"\x20\x02\x00\x01" if refused else b"\x20\x02\x00\x00")
    if not refused:
        subscribe = await reader.read(1024)  # its length takes two bytes
        writer.write(b"\x90\x06" + subscribe[3:5] + b"\x01\x01\x01\x01")
        await reader.read(1)
    writer.close()


async def test_a_broker_without_mqtt_5_is_spoken_to_in_the_older_tongue():
    server = await asyncio.start_server(serve_mqtt_3, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Running(settings_for("mosquitto", port)) as bus:
        assert (await bus.receive()).connected


async def test_the_embedded_broker_survives_noise_and_leaves_nothing_open():
    port = free_port()
    async with embedded(port):
        for noise in (
            b"",
            b"\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x10\xff\xff\xff\xff",
            b"\x10\x02ab",
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(noise)
            await writer.drain()
            writer.close()
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("$hw/x", qos=1)
            await client.publish("$hw/x", b"1", qos=1)
            assert (await anext(client.messages)).payload == b"1"


async def test_a_port_that_is_taken_is_said_once_and_waited_for(caplog):
    port = free_port()
    settings = BrokerSettings(embedded_address=f"127.0.0.1:{port}")
    holder = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", port)
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(EmbeddedBroker(settings).run())
        while not caplog.records:
            await asyncio.sleep(0.01)
        holder.close()
        await holder.wait_closed()
        await wait_listening(port)
        async with aiomqtt.Client("127.0.0.1", port):
            pass
        task.cancel()
        await asyncio.wait([task])
    (record,) = caplog.records
    assert f"embedded mqtt broker on 127.0.0.1:{port}" in record.getMessage()
