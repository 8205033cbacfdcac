"""Free messages from MQTT at the edge to the operator's broker: real brokers, SQLite, and the stream between."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from cloudcore.cloudhub.server import CloudHub
from cloudcore.settings import MqttSinkSettings
from cloudcore.valuestream.messages import Listener, MessageBroker, MessageHub
from edgecore.edgehub.client import EdgeHub
from edgecore.eventbus.bus import EventBus
from edgecore.eventbus.payloads import MAX_PAYLOAD_BYTES
from edgecore.eventbus.uploads import Uploads
from edgecore.metamanager.store import MetaStore
from synccore.messages import MAX_TEXT_BYTES, Lane, Op
from tests.fakes.cloud import FakeCounters, FakeSource
from tests.fakes.mqtt import broker, free_port, mosquitto
from tests.fakes.waiting import eventually
from tests.integration.test_sync_stream import Site, running

pytestmark = pytest.mark.timeout(60)
TOPICS = ("$hw/events/upload/site/x", "SYS/dis/upload_records", "app/user", "app/user/a/b")


@pytest.fixture(params=["mosquitto", "embedded"])
def kind(request):
    return request.param


@asynccontextmanager
async def agent(kind, folder):
    """Run a broker with a store and what uploads to it; yield the store and a client."""
    port = free_port()
    async with broker(kind, port, folder) as settings:
        store, bus = MetaStore(folder / "edge.db"), EventBus(settings, "edge-1")
        async with (
            running(store, bus, Uploads(store, bus, clock=lambda: 5.0)),
            aiomqtt.Client("127.0.0.1", port) as client,
        ):
            await eventually(lambda: bus.connected)
            yield store, client


async def waiting(store, count=1):
    """Wait for entries that are to go up; return them as (topic, body)."""
    rows = []

    async def there():
        rows[:] = await store.unsent(Lane.SAMPLES, 0, 100, 1 << 22)
        return len(rows) >= count

    await eventually(there)
    assert {(row.report.key.kind, row.report.op) for row in rows} == {("Message", Op.APPEND)}
    return [(row.report.key.name, json.loads(row.report.body)) for row in rows]


async def test_every_free_topic_of_kubeedge_is_kept_for_the_cloud(kind, tmp_path):
    async with agent(kind, tmp_path) as (store, client):
        for topic in TOPICS:
            await client.publish(topic, b"ol\xc3\xa9", qos=1)
        for other in ("user/x", "a/b/user/x", "SYS/dis/other", "$hw/events/else"):
            await client.publish(other, b"no", qos=1)
        await client.publish(TOPICS[0], b"\xff\x00", qos=1)
        kept = await waiting(store, len(TOPICS) + 1)
        assert sorted(topic for topic, _ in kept) == sorted([*TOPICS, TOPICS[0]])
        first, second = (body for topic, body in kept if topic == TOPICS[0])
        assert first == {"topic": TOPICS[0], "timeMs": 5000, "payload": "olé"}
        assert second["payloadBase64"] == "/wA="


async def test_what_is_too_large_is_dropped_and_said_and_the_next_one_taken(kind, tmp_path, caplog):
    async with agent(kind, tmp_path) as (store, client):
        await client.publish(TOPICS[0], b"x" * (MAX_PAYLOAD_BYTES + 1), qos=1)
        await client.publish("a/user/" + "x" * MAX_TEXT_BYTES, b"x", qos=1)
        await client.publish(TOPICS[0], b"small", qos=1)
        ((_, body),) = await waiting(store)
        assert body["payload"] == "small"
    assert f"payload of {MAX_PAYLOAD_BYTES + 1} bytes is more than the limit" in caplog.text


async def test_each_message_of_a_burst_is_kept(kind, tmp_path):
    async with agent(kind, tmp_path) as (store, client):
        async with asyncio.TaskGroup() as group:
            for number in range(1500):
                group.create_task(client.publish("app/user/x", str(number), qos=1))

        async def all_there():
            found = set()
            after = 0
            while rows := await store.unsent(Lane.SAMPLES, after, 4096, 1 << 22):
                found |= {json.loads(row.report.body)["payload"] for row in rows}
                after = rows[-1].version
            return found == {str(number) for number in range(1500)}

        await eventually(all_there)


async def test_a_message_that_was_not_stored_is_not_acknowledged(tmp_path):
    port = free_port()
    async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port) as client:
        from tests.fakes.mqtt import settings_for

        bus = EventBus(settings_for("mosquitto", port), "edge-1")
        async with running(bus):
            await eventually(lambda: bus.connected)
            await client.publish("app/user/x", b"1", qos=1)
            await bus.receive_uploads()  # and the agent dies here
        async with MetaStore(tmp_path / "edge.db") as store:
            again = EventBus(settings_for("mosquitto", port), "edge-1")
            uploads = Uploads(store, again)
            tasks = [asyncio.create_task(part.run()) for part in (again, uploads)]
            ((topic, _),) = await waiting(store)
            assert topic == "app/user/x"
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def cloud(site, sink):
    return CloudHub(site.cloud, source=FakeSource("edge-1"), sink=sink, counters=FakeCounters())


async def test_a_message_waits_for_the_link_and_for_the_operators_broker_and_comes_once(tmp_path):
    site, port = Site(tmp_path), free_port()
    sink = MessageBroker(MqttSinkSettings(url=f"mqtt://127.0.0.1:{port}"))
    hub, listener = MessageHub(sink), Listener([])
    hub.subscribe(listener)
    async with agent("mosquitto", tmp_path) as (store, client):
        await client.publish(TOPICS[0], b"while the link is cut", qos=1)
        await waiting(store)
        async with running(cloud(site, hub), sink, EdgeHub(site.edge("edge-1"), "edge-1", store)):
            (heard,) = (await listener.batch()).messages
            assert (heard.node, heard.topic, heard.time_ms) == ("edge-1", TOPICS[0], 5000)
            await waiting(store)  # not acknowledged: the broker does not have it
            cloud_folder = tmp_path / "cloud"
            cloud_folder.mkdir()
            async with (
                mosquitto(port, cloud_folder),
                aiomqtt.Client("127.0.0.1", port) as operator,
            ):
                await operator.subscribe("armadillo/messages/#", qos=1)
                message = await anext(operator.messages)
                assert message.topic.value == f"armadillo/messages/edge-1/{TOPICS[0]}"
                assert message.payload == b"while the link is cut"

                async def done():
                    return not await store.unsent(Lane.SAMPLES, 0, 10, 1 << 20)

                await eventually(done)
                await client.publish("app/user/x", b"\xff", qos=1)
                message = await anext(operator.messages)
                assert (message.topic.value, message.payload) == (
                    "armadillo/messages/edge-1/app/user/x",
                    b"\xff",
                )
                for number in range(100):
                    await client.publish("app/user/y", str(number), qos=1)
                seen = [int((await anext(operator.messages)).payload) for _ in range(100)]
                assert seen == list(range(100))
