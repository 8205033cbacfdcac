"""The inbox: bounded, and says so."""

import asyncio
import logging

import pytest

from edgecore.eventbus.inbox import MAX_BYTES, MAX_MESSAGES, Inbound, Inbox


async def test_messages_come_out_in_order_and_in_batches():
    inbox = Inbox()
    for number in range(5):
        inbox.put(Inbound(str(number), b""))
    taken = [m.topic for m in (await inbox.take(3)).messages]
    taken += [m.topic for m in (await inbox.take(3)).messages]
    assert taken == ["0", "1", "2", "3", "4"]


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


async def test_a_new_connection_wakes_whoever_waits():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.take(1))
    await asyncio.sleep(0)
    inbox.connected()
    assert await waiting == ([], True)
