"""The fence: which database may speak for a node, and that nothing older is written over what is newer."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudcore.cloudhub.fence import (
    MAX_KEYS,
    MAX_SEQUENCES,
    REMEMBERED_S,
    DatabaseFence,
    Lately,
    Recorded,
    decode_record,
    encode_record,
)
from cloudcore.cloudhub.registry import NodeRegistry, RefusedError
from synccore.messages import Delta, Hello, ObjectKey, Op

ONE, OTHER = b"1" * 16, b"2" * 16
WEB = ObjectKey("Pod", "default", "web")
EPOCH = 1 << 48


def hello(database=ONE, run="run-a", fork=0):
    return Hello("edge-1", database, bytes(16), 0, "1", run, fork=fork)


def state(version, key=WEB):
    return Delta(Op.UPSERT, key, "u", version)


class Sink:
    def __init__(self):
        self.written, self.open = [], asyncio.Event()
        self.open.set()

    async def write(self, node, delta):
        await self.open.wait()
        self.written.append(delta)


async def spoken(fence, to=100, run="run-a"):
    """A session that wrote up to version `to`."""
    guard = fence.guard(Sink())
    guard.join("edge-1", hello(run=run))
    await guard.write("edge-1", state(to))


async def test_the_same_run_may_come_back_whatever_it_has_written():
    fence = DatabaseFence()
    await spoken(fence)
    fence.join("edge-1", hello(fork=0))


async def test_the_next_start_is_known_by_where_it_starts():
    fence = DatabaseFence()
    await spoken(fence)
    fence.join("edge-1", hello(run="run-b", fork=100))


async def test_an_old_copy_is_turned_away_until_it_starts_a_new_epoch():
    fence = DatabaseFence()
    await spoken(fence)
    with pytest.raises(RefusedError, match="copy from before") as caught:
        fence.join("edge-1", hello(run="run-b", fork=99))
    assert caught.value.code == "STALE_DATABASE"
    fence.join("edge-1", hello(run="run-b", fork=EPOCH))


async def test_an_old_copy_is_turned_away_by_the_next_cloudcore_too():
    first = DatabaseFence()
    await spoken(first)
    recorded = first.annotation("edge-1")
    second = DatabaseFence(lambda node: recorded if node == "edge-1" else "")
    with pytest.raises(RefusedError):
        second.join("edge-1", hello(run="run-b", fork=99))
    second.join(
        "edge-1", hello(run="run-a", fork=0)
    )  # the run that the annotation names, on a new stream


async def test_another_database_starts_from_nothing():
    fence, sink = DatabaseFence(), Sink()
    await spoken(fence)
    guard = fence.guard(sink)
    guard.join("edge-1", hello(OTHER, "run-z"))
    await guard.write("edge-1", state(1))
    assert sink.written == [state(1)]


async def test_a_state_is_written_once_and_nothing_older_after_it():
    fence, sink = DatabaseFence(), Sink()
    for _ in range(2):  # two sessions
        guard = fence.guard(sink)
        guard.join("edge-1", hello())
        for version in (5, 5, 4, 6):
            await guard.write("edge-1", state(version))
    assert [delta.version for delta in sink.written] == [5, 6]


async def test_what_an_old_session_still_holds_is_not_written_after_the_new_ones():
    fence, sink = DatabaseFence(), Sink()
    old, new = fence.guard(sink), fence.guard(sink)
    old.join("edge-1", hello())
    new.join("edge-1", hello())
    sink.open.clear()
    late = [asyncio.ensure_future(new.write("edge-1", state(2)))]
    await asyncio.sleep(0)
    late.append(asyncio.ensure_future(old.write("edge-1", state(1))))
    await asyncio.sleep(0)
    sink.open.set()
    await asyncio.gather(*late)
    assert [delta.version for delta in sink.written] == [2]


async def test_a_write_that_failed_may_be_repeated():
    fence, sink = DatabaseFence(), Sink()
    guard = fence.guard(sink)
    guard.join("edge-1", hello())
    sink.open.clear()
    broken = asyncio.ensure_future(guard.write("edge-1", state(1)))
    await asyncio.sleep(0)
    broken.cancel()
    await asyncio.wait([broken])
    sink.open.set()
    await guard.write("edge-1", state(1))
    assert sink.written == [state(1)]


async def test_a_log_entry_is_written_once_by_its_sequence():
    fence, sink = DatabaseFence(), Sink()
    guard = fence.guard(sink)
    guard.join("edge-1", hello())
    for sequence in (1, 2, 1, 2, 3):
        await guard.write("edge-1", Delta(Op.APPEND, WEB, "u", sequence, sequence))
    assert [delta.sequence for delta in sink.written] == [1, 2, 3]


async def test_leases_have_no_version_and_are_always_written():
    fence, sink = DatabaseFence(), Sink()
    guard = fence.guard(sink)
    guard.join("edge-1", hello())
    for _ in range(3):
        await guard.write("edge-1", state(0))
    assert len(sink.written) == 3


async def test_reports_of_an_idle_node_do_not_change_its_annotation():
    fence = DatabaseFence()
    guard = fence.guard(Sink())
    guard.join("edge-1", hello())
    before = fence.annotation("edge-1")
    await guard.write("edge-1", state(7, ObjectKey("Node", "", "edge-1")))
    assert fence.annotation("edge-1") == before
    await guard.write("edge-1", state(8))
    assert fence.annotation("edge-1") != before


def test_an_annotation_reads_back_and_nonsense_is_nothing():
    recorded = Recorded("ab" * 16, EPOCH + 5, "run-a")
    assert encode_record(recorded) == f"{'ab' * 16}:1:{EPOCH + 5}:run-a"
    assert decode_record(encode_record(recorded)) == recorded
    for text in ("", "a:b", "a:1:x:b", "a:1:-1:b", "a:1:²:b", "a:1:" + "9" * 100 + ":b", ":::"):
        assert decode_record(text) is None


def test_a_copy_waits_outside_while_the_original_is_connected():
    ended = []

    class Stream:
        def end(self, code, reason, retry_after_s):
            ended.append(code)

    registry, first = NodeRegistry(5.0), Stream()
    registry.admit("edge-1", ONE, "run-a", first)
    with pytest.raises(RefusedError, match="a copy of the same edgecore"):
        registry.admit("edge-1", ONE, "run-b", Stream())
    with pytest.raises(RefusedError, match="another edgecore"):
        registry.admit("edge-1", OTHER, "run-c", Stream())
    assert ended == []
    registry.admit("edge-1", ONE, "run-a", Stream())
    assert ended == ["SUPERSEDED"]


def entry(sequence):
    return Delta(Op.APPEND, WEB, "u", sequence, sequence)


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


async def test_a_node_that_has_written_for_weeks_costs_no_more_than_what_it_wrote_lately():
    clock, sink = Clock(), Sink()
    fence = DatabaseFence(clock=clock)
    guard = fence.guard(sink)
    guard.join("edge-1", hello())
    for sequence in range(1, 30_001):
        await guard.write("edge-1", entry(sequence))
        await guard.write("edge-1", state(sequence, WEB._replace(name=f"pod-{sequence % 5000}")))
    database = fence.join("edge-1", hello())
    assert len(database.sequences) <= 2 * MAX_SEQUENCES
    assert len(database.versions) <= 2 * MAX_KEYS
    for minute in range(6):  # an idle node's own report, every five minutes
        clock.now_s += 300.0
        await guard.write("edge-1", state(40_000 + minute, ObjectKey("Node", "", "edge-1")))
        await guard.write("edge-1", entry(40_000 + minute))
    assert len(database.sequences) + len(database.versions) < 20


async def test_what_was_written_before_a_long_time_without_a_link_is_not_written_twice():
    clock, sink = Clock(), Sink()
    fence = DatabaseFence(clock=clock)
    guard = fence.guard(sink)
    guard.join("edge-1", hello())
    for sequence in range(1, 2001):
        await guard.write("edge-1", entry(sequence))
    clock.now_s += 10 * 24 * 3600.0  # the link broke before the acknowledgements
    again = fence.guard(sink)
    again.join("edge-1", hello())
    for sequence in range(1, 3001):
        await again.write("edge-1", entry(sequence))
    assert [delta.sequence for delta in sink.written] == list(range(1, 3001))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0.0, 1000.0)), max_size=60))
def test_the_last_that_were_put_are_known_and_no_more_than_twice_as_many(puts):
    lately, now_s, order = Lately(8), 0.0, []
    for key, later_s in puts:
        now_s += later_s
        lately.put(key, now_s, now_s)
        order = [(k, t) for k, t in order if k != key] + [(key, now_s)]
        assert len(lately) <= 16
        young = [k for k, t in order[-8:] if now_s - t < REMEMBERED_S]
        assert all(lately.get(k, None) == dict(order)[k] for k in young)
