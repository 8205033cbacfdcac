"""The inbox: bounded, and says so."""

import asyncio
import json
import logging

import pytest

from edgecore.eventbus.coalescing import coalesce
from edgecore.eventbus.inbox import (
    CROWDED_BYTES,
    CROWDED_MESSAGES,
    MAX_BYTES,
    MAX_MESSAGES,
    MAX_OF_SOURCE,
    Inbound,
    Inbox,
)


async def test_messages_come_out_in_order_and_in_batches():
    inbox = Inbox()
    for number in range(5):
        inbox.put(Inbound(str(number), b""))
    taken = [m.topic for m in (await inbox.take(3)).messages]
    taken += [m.topic for m in (await inbox.take(3)).messages]
    assert taken == ["0", "1", "2", "3", "4"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("payload", "fits"), [(b"", MAX_MESSAGES), (b"x" * (1 << 20), MAX_BYTES >> 20)]
)
async def test_a_full_inbox_drops_the_newest_counts_it_and_says_it_once(payload, fits, caplog):
    inbox = Inbox()
    with caplog.at_level(logging.INFO):
        for number in range(fits + 3):
            inbox.put(Inbound(str(number), payload))
        assert inbox.dropped_count == 3
        taken = (await inbox.take(fits + 3)).messages
    assert len(taken) == fits
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    inbox.put(Inbound("again", payload))
    assert (await inbox.take(1)).messages[0].topic == "again"


async def test_who_sends_waits_while_it_is_crowded_and_goes_on_when_half_is_done():
    inbox, told = Inbox(), []
    inbox.on_room(lambda: told.append(inbox.crowded))
    devices = [f"$hw/events/device/n/d{number}/values" for number in range(20)]
    for number in range(CROWDED_MESSAGES):
        assert not inbox.crowded
        inbox.put(Inbound(devices[number % 20], b""))
    assert inbox.crowded
    await inbox.take(CROWDED_MESSAGES // 2 - 1)
    assert told == []
    await inbox.take(1)
    assert told == [False]
    inbox.put(Inbound("t", bytes(CROWDED_BYTES)))
    assert inbox.crowded


async def test_of_many_devices_each_has_its_share():
    inbox = Inbox()
    devices = [f"$hw/events/device/n/d{number}/values" for number in range(10)]
    for number in range(5000):
        inbox.put(Inbound(devices[number % 10], b""))
    for _ in range(4):
        taken = [m.topic for m in (await inbox.take(512)).messages]
        assert {taken.count(topic) for topic in devices} == {51, 52}


async def test_a_new_connection_wakes_whoever_waits():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.take(1))
    await asyncio.sleep(0)
    inbox.connected()
    assert await waiting == ([], True)


def said(device, number, **values):
    twin = {name: {"actual": {"value": value}} for name, value in values.items()}
    body = {"event_id": str(number), "twin": twin}
    return Inbound(f"$hw/events/device/n/{device}/twin/update", json.dumps(body).encode(), number)


def test_a_deletion_keeps_its_place_among_the_updates_that_are_merged():
    gone = Inbound("$hw/events/device/n/d/twin/update", b'{"twin":{"level":null}}', 3)
    messages = [said("d", 1, level="1"), said("d", 2, level="2"), gone, said("d", 4, level="4")]
    kept = coalesce([*messages, said("d", 5, flow="5")])
    twins = [json.loads(message.payload)["twin"] for message in kept]
    assert twins == [
        {"level": {"actual": {"value": "2"}}},
        {"level": None},
        {"level": {"actual": {"value": "4"}}, "flow": {"actual": {"value": "5"}}},
    ]
    assert [[m.message_id for m in (*k.stands_for, k)] for k in kept] == [[1, 2], [3], [4, 5]]


async def test_a_flood_of_one_device_does_not_delay_the_others():
    inbox = Inbox(coalesce)
    for number in range(900):
        inbox.put(said("loud", number, level="1"))
    inbox.put(said("quiet", 7, level="2"))
    taken = (await inbox.take(10)).messages
    assert [m.message_id for m in taken if "quiet" in m.topic] == [7]
    assert [m.message_id for m in taken if "loud" in m.topic] == list(range(9))


class Acknowledged:
    def __init__(self):
        self.ids = []

    def acknowledge(self, message_id):
        self.ids.append(message_id)


async def test_a_flooding_device_keeps_the_newest_of_each_property_and_everything_is_acknowledged():
    inbox, link, count = Inbox(coalesce), Acknowledged(), 10 * MAX_OF_SOURCE
    inbox.put(said("loud", 1, once="first")._replace(link=link))
    for number in range(2, count + 1):
        inbox.put(said("loud", number, level=str(number))._replace(link=link))
    twin, left = {}, []
    while len(link.ids) < count:
        for message in (await inbox.take(512)).messages:
            left.append(message)
            twin |= json.loads(message.payload)["twin"]
            message.acknowledge()
    assert {n: t["actual"]["value"] for n, t in twin.items()} == {
        "once": "first",
        "level": str(count),
    }
    assert sorted(link.ids) == list(range(1, count + 1))
    assert inbox.dropped_count == 0
    assert inbox.coalesced_count == count - len(left) > 0


async def test_a_flood_that_cannot_be_merged_loses_its_oldest_and_is_counted():
    inbox, link, count = Inbox(coalesce), Acknowledged(), 3 * MAX_OF_SOURCE
    for number in range(1, count + 1):
        inbox.put(said("loud", number)._replace(payload=b"{", link=link))
    taken = (await inbox.take(count)).messages
    assert taken[-1].message_id == count
    assert inbox.dropped_count == count - len(taken)
    assert link.ids == list(range(1, inbox.dropped_count + 1))


async def test_a_batch_is_bounded_by_bytes_and_the_next_begins_with_who_was_left_out():
    inbox = Inbox()
    for number in range(30):
        inbox.put(Inbound(f"$hw/events/device/n/d{number % 3}/values", b"x" * 100, number))
    first = (await inbox.take(512, 450)).messages
    assert [m.message_id for m in first] == [0, 3, 6, 9, 12]
    rest = []
    while len(rest) < 25:
        batch = (await inbox.take(512, 450)).messages
        assert len(batch) == 5
        rest += batch
    assert rest[0].message_id == 1
    assert sorted(m.message_id for m in first + rest) == list(range(30))
    assert inbox.waiting_bytes == 0
