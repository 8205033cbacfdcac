"""One end of a byte stream: back-pressure both ways, half-close, and what a reader gets of a stream that broke."""

from __future__ import annotations

import asyncio

import pytest

from corekit.bytestream import MAX_SEND_BYTES, ByteStream, StreamBrokenError


class Carrier:
    """A port with so much room; it remembers what it was told."""

    def __init__(self, room=0):
        self.left, self.sent, self.said = room, b"", []
        self.pieces = []

    def room(self):
        return self.left

    def send(self, content, *, end=False):
        assert len(content) <= self.left
        self.left -= len(content)
        self.sent += content
        self.pieces.append(len(content))
        if end:
            self.said.append("end")

    def consumed(self, size_bytes):
        self.said.append(size_bytes)

    def close(self, error):
        self.said.append(f"close {error}")


async def test_a_writer_waits_for_room_and_goes_on_with_it():
    carrier = Carrier(3)
    stream = ByteStream(carrier)
    writing = asyncio.create_task(stream.write(b"hello"))
    await asyncio.sleep(0)
    assert (carrier.sent, writing.done()) == (b"hel", False)
    carrier.left = 10
    stream.has_room()
    await writing
    assert carrier.sent == b"hello"


async def test_a_large_write_is_handed_over_in_pieces():
    carrier = Carrier(1 << 20)
    await ByteStream(carrier).write(bytes(3 * MAX_SEND_BYTES))
    assert max(carrier.pieces) == MAX_SEND_BYTES


async def test_credit_goes_back_when_a_chunk_is_read_and_not_before():
    carrier = Carrier()
    stream = ByteStream(carrier)
    stream.feed(b"ab", end=False)
    stream.feed(b"c", end=True)
    assert carrier.said == []
    assert [await stream.read() for _ in range(3)] == [b"ab", b"c", b""]
    assert carrier.said == [2, 1]


async def test_the_end_of_one_direction_leaves_the_other_open():
    carrier = Carrier(10)
    stream = ByteStream(carrier)
    stream.end()
    stream.end()
    stream.feed(b"more", end=False)
    assert await stream.read() == b"more"
    assert carrier.said == ["end", 4]


async def test_what_came_before_a_break_is_read_and_then_the_reason():
    stream = ByteStream(Carrier())
    stream.feed(b"last", end=False)
    stream.broke("the link was lost")
    assert await stream.read() == b"last"
    with pytest.raises(StreamBrokenError, match="the link was lost"):
        await stream.read()
    with pytest.raises(StreamBrokenError, match="the link was lost"):
        await stream.write(b"x")


async def test_a_break_after_the_end_is_no_break():
    stream = ByteStream(Carrier())
    stream.feed(b"", end=True)
    stream.broke("the link was lost")
    assert await stream.read() == b""


@pytest.mark.parametrize("what", ["broke", "close"])
async def test_whoever_waits_is_woken_when_it_is_over(what):
    stream = ByteStream(Carrier())
    tasks = [asyncio.create_task(stream.read()), asyncio.create_task(stream.write(b"x"))]
    await asyncio.sleep(0)
    getattr(stream, what)("over")
    for task in tasks:
        with pytest.raises(StreamBrokenError):
            await task


async def test_closing_says_so_once_and_forgets_what_was_not_read():
    carrier = Carrier()
    stream = ByteStream(carrier)
    stream.feed(b"x", end=False)
    stream.close("enough")
    stream.close("again")
    stream.feed(b"y", end=False)
    assert carrier.said == ["close enough"]
    with pytest.raises(StreamBrokenError, match="enough"):
        await stream.read()
