"""Messages that nodes upload: who sees which, at which pace, and what is no message."""

import asyncio

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudcore.settings import MqttSinkSettings
from cloudcore.valuestream.messages import (
    MAX_WAITING,
    Listener,
    MessageBroker,
    MessageHub,
    NodeMessage,
    RefusedMessageError,
    decode_message,
)
from corekit.errors import ConfigError
from edgecore.eventbus.uploads import encode_message
from synccore.messages import Delta, ObjectKey, Op
from synccore.pb import values_pb2
from tests.cloudcore.valuestream.test_server import site

pytestmark = pytest.mark.timeout(30)


def delta(body, op=Op.APPEND):
    return Delta(op, ObjectKey("Message", "", "t"), "", 1, 1, body)


@given(st.text(st.characters(exclude_characters="+#\0", codec="utf-8"), min_size=1), st.binary())
def test_a_message_arrives_as_it_was_published(topic, payload):
    body = encode_message(topic, payload, 7)
    assert decode_message("edge-1", delta(body)) == NodeMessage("edge-1", topic, 7, payload)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"topic":"","timeMs":1}',
        b'{"topic":"a/#","timeMs":1}',
        b'{"topic":"a","timeMs":1,"payloadBase64":"*"}',
        b'{"topic":"a","timeMs":"1"}',
        b'{"a":' * 50_000,
    ],
)
async def test_what_is_no_message_is_dropped_and_said(body, caplog):
    with pytest.raises(RefusedMessageError):
        decode_message("edge-1", delta(body))
    await MessageHub().write("edge-1", delta(body))
    assert "message of a node dropped: edge-1:" in caplog.text


async def test_without_a_broker_and_without_a_listener_it_is_said_that_nobody_hears(caplog):
    hub = MessageHub()
    await hub.write("edge-1", delta(encode_message("app/user/x", b"1", 7)))
    assert "mqtt_sink.url is empty and nobody listens: edge-1: app/user/x" in caplog.text


async def test_a_slow_listener_loses_the_oldest_and_is_told_how_many():
    listener = Listener(["edge-1"])
    for number in range(MAX_WAITING + 3):
        listener.put(NodeMessage("edge-1", "t", number, b""))
        listener.put(NodeMessage("edge-2", "t", number, b""))
    batch = await listener.batch()
    assert (batch.missed, len(batch.messages), batch.messages[0].time_ms) == (3, MAX_WAITING, 3)


async def test_a_large_backlog_comes_in_several_batches():
    listener = Listener([])
    for _ in range(8):
        listener.put(NodeMessage("edge-1", "t", 1, b"x" * (256 << 10)))
    counts = [len((await listener.batch()).messages) for _ in range(2)]
    assert counts == [4, 4]


async def test_who_may_watch_the_messages_of_a_node_gets_them_and_no_others(tmp_path):
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.reviews.allowed.add(("ann", "watch", "nodes/messages", "edge-1"))
        call = stub.Messages(values_pb2.MessagesRequest(nodes=["edge-1"]))
        first = asyncio.ensure_future(call.read())
        while not made.messages._listeners:
            await asyncio.sleep(0.01)
        for node in ("edge-2", "edge-1"):
            await made.messages.write(node, delta(encode_message("app/user/x", b"1", 7)))
        (message,) = (await first).messages
        assert (message.node, message.topic, message.payload) == ("edge-1", "app/user/x", b"1")
        for nodes in (["edge-2"], []):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Messages(values_pb2.MessagesRequest(nodes=nodes)).read()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_broker_that_is_none_is_refused():
    with pytest.raises(ConfigError):
        MessageBroker(MqttSinkSettings(url="http://x"))
