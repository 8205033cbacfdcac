"""The queue of one node's reports: newest per key, never two writes of a key at once, frames done in order."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudcore.cloudhub.reports import ReportQueue
from synccore.messages import Delta, Lane, ObjectKey, Op
from synccore.session import Received

KEYS = [ObjectKey("Pod", "default", name) for name in "abc"]


def report(key, version, op=Op.UPSERT, sequence=0):
    return Delta(op, key, "u", version, sequence)


class SlowSink:
    """Writes take as many turns of the loop as the seed says; overlapping writes of one key are an error."""

    def __init__(self, random):
        self._random, self._busy = random, set()
        self.written = []

    async def write(self, node, delta):
        assert delta.key not in self._busy or delta.op is Op.APPEND, "two writes of one key at once"
        self._busy.add(delta.key)
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        self._busy.discard(delta.key)
        self.written.append(delta)


async def run(queue):
    """Write until cancelled."""
    async with asyncio.TaskGroup() as group:
        queue.start(group)
        await asyncio.Event().wait()


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([Lane.PODS, Lane.TWINS]), st.lists(st.sampled_from(KEYS), max_size=3)
    ),
    min_size=1,
    max_size=10,
)


@settings(deadline=None)
@given(FRAMES, st.integers(0, 2**32))
def test_every_frame_is_done_in_order_and_the_newest_of_each_key_is_written_last(frames, seed):
    random, done = Random(seed), {lane: [] for lane in Lane}
    sink, newest, numbers = SlowSink(random), {}, dict.fromkeys(Lane, 0)

    async def story():
        queue = ReportQueue("edge-1", sink, lambda lane, number: done[lane].append(number))
        task = asyncio.create_task(run(queue))
        version = 0
        for lane, keys in frames:
            deltas = []
            for key in keys:
                version += 1
                newest[key] = version
                deltas.append(report(key, version))
            numbers[lane] += 1
            await queue.put(Received(lane, numbers[lane], deltas))
            for _ in range(random.randrange(3)):
                await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while any(numbers[lane] != (done[lane] or [0])[-1] for lane in Lane):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(story())
    assert all(numbers == sorted(set(numbers)) for numbers in done.values())
    last = {delta.key: delta.version for delta in sink.written}
    assert last == newest


async def test_a_frame_is_not_done_before_the_frame_in_front_of_it():
    release, done = asyncio.Event(), []

    class Sink:
        async def write(self, node, delta):
            if delta.key == KEYS[0]:
                await release.wait()

    queue = ReportQueue("edge-1", Sink(), lambda lane, number: done.append(number))
    task = asyncio.create_task(run(queue))
    await queue.put(Received(Lane.PODS, 1, [report(KEYS[0], 1)]))
    await queue.put(Received(Lane.PODS, 2, [report(KEYS[1], 2)]))
    await asyncio.sleep(0.02)
    assert done == []
    release.set()
    await asyncio.sleep(0.02)
    assert done == [2]
    task.cancel()
    await asyncio.wait([task])


async def test_an_empty_frame_is_done_at_once():
    done = []
    queue = ReportQueue("edge-1", None, lambda lane, number: done.append((lane, number)))
    await queue.put(Received(Lane.PODS, 1, []))
    assert done == [(Lane.PODS, 1)]


@pytest.mark.parametrize(("op", "writes"), [(Op.APPEND, 3), (Op.UPSERT, 1)])
async def test_log_entries_are_all_written_and_states_only_the_newest(op, writes):
    written, done = [], asyncio.Event()

    class Sink:
        async def write(self, node, delta):
            written.append(delta)

    queue = ReportQueue("edge-1", Sink(), lambda lane, number: number == 3 and done.set())
    for number in (1, 2, 3):
        await queue.put(Received(Lane.PODS, number, [report(KEYS[0], number, op, number)]))
    task = asyncio.create_task(run(queue))
    await asyncio.wait_for(done.wait(), 2)
    assert len(written) == writes
    assert written[-1].version == 3
    task.cancel()
    await asyncio.wait([task])
