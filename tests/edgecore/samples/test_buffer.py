"""The edge's buffer of readings: nothing is overtaken while there is room, and the newest stays when there is none."""

from __future__ import annotations

import asyncio
from array import array

import pytest

from edgecore.records import SAMPLE_BLOCK
from edgecore.samples import buffer as limits
from edgecore.samples.buffer import SampleBuffer, SeriesLimitError
from synccore.errors import FrameError
from synccore.messages import Lane, Op
from synccore.samples import BlockDecoder, newest
from synccore.series import MAX_NAME_BYTES, MAX_NAMES_BYTES, Series


class CommitLog:
    """A `CommitStore` that keeps what was committed."""

    def __init__(self):
        self.reports = []

    async def commit(self, commit):
        self.reports += commit.reports


@pytest.fixture
def store():
    return CommitLog()


@pytest.fixture
def buffer(store):
    return SampleBuffer(store)


def columns(*rows):
    values = [row[2] for row in rows]
    floats = all(type(value) is float for value in values)
    return (
        array("I", [row[0] for row in rows]),
        array("q", [row[1] for row in rows]),
        array("d", values) if floats else values,
    )


def sent(buffer):
    """Readings of every block that the buffer has to send, as (series, time, value)."""
    found = []
    while block := buffer.next_block():
        readings = BlockDecoder().decode(block).readings
        for number, time_ms, value in zip(
            readings.series, readings.times, readings.values, strict=True
        ):
            found.append((readings.names[number], time_ms, value))
    return found


def test_what_was_put_comes_out_in_order_whatever_its_type(buffer):
    pressure, running = (
        buffer.series("default/pump", "pressure"),
        buffer.series("default/pump", "on"),
    )
    assert buffer.series("default/pump", "pressure") == pressure
    buffer.put(*columns((pressure, 1, 2.5)))
    buffer.put(*columns((running, 2, True), (pressure, 2, 7)))
    buffer.put(*columns((pressure, 3, 2.75)))
    first, second = Series("default/pump", "pressure"), Series("default/pump", "on")
    assert sent(buffer) == [(first, 1, 2.5), (second, 2, True), (first, 2, 7), (first, 3, 2.75)]
    assert buffer.waiting_count == buffer.overtaken_count == 0


def test_more_than_fits_keeps_the_newest_of_each_series_and_counts_the_others(buffer):
    numbers = [buffer.series("default/pump", f"p{n}") for n in range(10)]
    for round_ms in range(5_000):
        buffer.put(*columns(*((number, round_ms, float(round_ms)) for number in numbers)))
    assert buffer.waiting_count <= limits.MAX_WAITING
    left = sent(buffer)
    assert {name: time_ms for name, time_ms, _ in left} == {
        Series("default/pump", f"p{n}"): 4_999 for n in range(10)
    }
    assert len(left) + buffer.overtaken_count == 50_000


async def test_a_producer_that_waits_for_room_has_nothing_overtaken(buffer):
    number = buffer.series("default/pump", "pressure")
    batch = columns(*((number, n, float(n)) for n in range(5_000)))
    for _ in range(4):
        buffer.put(*batch)
    waiting = asyncio.ensure_future(buffer.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert len(sent(buffer)) == 20_000
    await waiting
    assert buffer.overtaken_count == 0


@pytest.mark.parametrize(
    "bad",
    [
        columns((0, 1, 1.0), (9, 1, 1.0)),
        columns((0, 1, 1.0), (0, 1, None)),
        (array("I", [0]), array("q", [1, 2]), array("d", [1.0])),
    ],
)
def test_a_batch_with_a_bad_reading_is_refused_whole(buffer, bad):
    buffer.series("default/pump", "pressure")
    with pytest.raises(FrameError):
        buffer.put(*bad)
    assert buffer.waiting_count == 0


def test_a_name_too_long_or_one_series_too_many_is_refused_by_name(buffer, monkeypatch):
    with pytest.raises(SeriesLimitError, match="default/pump x+: name is longer than 512 bytes"):
        buffer.series("default/pump", "x" * (MAX_NAME_BYTES + 1))
    for number in range(limits.MAX_KNOWN_SERIES):
        buffer.series("p", f"{number:x}")
    with pytest.raises(SeriesLimitError, match="one more than the 32768 series"):
        buffer.series("p", "one more")


def test_names_of_all_series_together_stay_below_the_limit_of_a_block(buffer):
    longest = "d" * MAX_NAME_BYTES
    for number in range(MAX_NAMES_BYTES // (2 * MAX_NAME_BYTES)):
        buffer.series(longest, f"{number:0{MAX_NAME_BYTES}}")
    with pytest.raises(SeriesLimitError, match="names of all series"):
        buffer.series("d", "p")


def test_a_new_stream_gets_what_the_old_one_left_unacknowledged_first(buffer):
    number = buffer.series("default/pump", "pressure")
    blocks = []
    for time_ms in range(3):
        buffer.put(*columns((number, time_ms, 0.5)))
        blocks.append(buffer.next_block())
    buffer.acknowledged(1)
    buffer.restart()
    buffer.put(*columns((number, 9, 0.5)))
    assert buffer.next_block() == blocks[1]
    buffer.acknowledged(1)
    assert buffer.next_block() == blocks[2]
    assert [time_ms for _, time_ms, _ in sent(buffer)] == [9]
    buffer.acknowledged(2)
    buffer.restart()
    assert buffer.next_block() is None


async def test_durable_readings_become_log_rows_of_one_block_each(buffer, store):
    number = buffer.series("default/pump", "pressure")
    count = limits.BLOCK_READINGS + 1
    await buffer.put_durable(*columns(*((number, n, n / 2) for n in range(count))))
    assert [(r.key, r.lane, r.op) for r in store.reports] == [
        (SAMPLE_BLOCK, Lane.SAMPLES, Op.APPEND)
    ] * 2
    last = BlockDecoder().decode(store.reports[1].body).readings
    assert newest(last) == {Series("default/pump", "pressure"): (count - 1, (count - 1) / 2)}
    assert buffer.next_block() is None
