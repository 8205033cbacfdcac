"""Lanes: control overtakes all, the others share, and what is under way is bounded by what the link carries."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synccore.cloud_session import CloudSession, Joining
from synccore.codec import encode_batch
from synccore.edge_session import EdgeSession
from synccore.index import RecordIndex
from synccore.lanes import (
    MAX_BUDGET_BYTES,
    MAX_WAITING_FRAMES,
    MIN_BUDGET_BYTES,
    SHARES,
    START_BUDGET_BYTES,
    LaneQueue,
    LinkBudget,
)
from synccore.messages import (
    BATCH_TARGET_BYTES,
    Delta,
    Frame,
    Hello,
    Lane,
    ObjectKey,
    Op,
    Ping,
)
from synccore.session import Acknowledged, Received
from synccore.tunnels import StreamCame


def frame(lane, number, size):
    return Frame(lane, number, b"x" * size)


FRAMES = st.lists(st.tuples(st.sampled_from(Lane), st.integers(1, BATCH_TARGET_BYTES)), max_size=40)


@given(FRAMES, st.integers(0, 10))
def test_a_control_frame_waits_behind_a_bounded_number_of_bytes_whatever_else_waits(flood, turns):
    queue, out = LaneQueue(), 0
    for number, (lane, size) in enumerate(flood):
        if lane is not Lane.CONTROL:
            queue.put(frame(lane, number, size))
    for _ in range(turns):
        out += sum(len(f.batch) for f in queue.take())
    assert out <= START_BUDGET_BYTES + BATCH_TARGET_BYTES  # nothing has confirmed a byte yet
    queue.put(frame(Lane.CONTROL, 1, 100))
    assert queue.take()[0].lane is Lane.CONTROL


@given(FRAMES)
def test_each_lane_keeps_its_order_and_nothing_is_lost(flood):
    queue, came = LaneQueue(), []
    for number, (lane, size) in enumerate(flood):
        queue.put(frame(lane, number, size))
    for ping in range(1, 500):
        came += queue.take()
        queue.link.pinged(ping, 0.0)
        queue.link.ponged(ping, 0.001)
    for lane in Lane:
        numbers = [f.number for f in came if f.lane is lane]
        assert numbers == [n for n, (other, _) in enumerate(flood) if other is lane]


def test_busy_lanes_share_by_weight():
    queue, sent = LaneQueue(), Counter()
    for turn in range(1, 2000):
        for lane in SHARES:
            while queue.waiting(lane) < MAX_WAITING_FRAMES:
                queue.put(frame(lane, turn, queue.frame_bytes))
        for taken in queue.take():
            sent[taken.lane] += 1
        queue.link.pinged(turn, 0.0)
        queue.link.ponged(turn, 0.001)
    for lane, share in SHARES.items():
        assert sent[lane] / sent.total() == pytest.approx(share / sum(SHARES.values()), rel=0.05)


def test_a_lane_that_was_silent_has_not_saved_up():
    queue = LaneQueue()
    for number in range(100):
        queue.put(frame(Lane.SAMPLES, number, 1000))
        queue.take()
        queue.link.pinged(number, 0.0)
        queue.link.ponged(number, 0.001)
    for number in range(10):
        queue.put(frame(Lane.SAMPLES, number, 1000))
        queue.put(frame(Lane.PODS, number, 1000))
    first = [f.lane for f in queue.take()]
    assert Lane.PODS in first
    assert Lane.SAMPLES in first


def test_what_a_busy_end_answers_says_nothing_of_the_link():
    link = LinkBudget()
    link.pinged(0, 0.0)
    link.ponged(0, 0.01)
    for number in range(1, 20):
        link.sent(link.budget_bytes)
        link.pinged(number, 10.0 * number)
        assert not link.has_room
        link.ponged(number, 10.0 * number + 5, late=True)
        assert (link.budget_bytes, link.under_way_bytes) == (START_BUDGET_BYTES, 0)
    link.sent(link.budget_bytes)
    link.pinged(20, 200.0)
    link.ponged(20, 205.0)
    assert link.budget_bytes == START_BUDGET_BYTES // 2


def test_the_budget_grows_on_a_fast_link_and_shrinks_on_a_slow_one():
    link = LinkBudget()
    for number in range(1, 30):
        link.sent(link.budget_bytes)
        link.pinged(number, 0.0)
        link.ponged(number, 0.01)
    assert link.budget_bytes == MAX_BUDGET_BYTES
    for number in range(30, 60):
        link.sent(link.budget_bytes)
        link.pinged(number, 0.0)
        link.ponged(number, 5.0)
    assert link.budget_bytes == MIN_BUDGET_BYTES


class SlowLink:
    """Carries one direction at so many bytes a second, in order; the other direction is fast."""

    def __init__(self, bytes_per_s):
        self._rate, self._free_at, self._queue = bytes_per_s, 0.0, deque()

    def send(self, message, now):
        content = getattr(message, "batch", None) or getattr(message, "content", b"")
        size = len(content) + 40
        self._free_at = max(self._free_at, now) + size / self._rate
        self._queue.append((self._free_at, message))

    def arrived(self, now):
        while self._queue and self._queue[0][0] <= now:
            yield self._queue.popleft()[1]


def joined():
    """Return both ends, live."""
    index = RecordIndex()
    edge = EdgeSession(Hello("e", b"d" * 16, index.digest(), 0, "1", "b"), index.entries, 0.0)
    cloud = CloudSession(0.0, heartbeat_s=5, window_frames=16)
    for message in edge.outgoing():
        for event in cloud.receive(message, 0.0):
            assert isinstance(event, Joining)
            cloud.accept(index, lambda _: None, "s")
    for message in cloud.outgoing():
        edge.receive(message, 0.0)
    for message in edge.outgoing():
        cloud.receive(message, 0.0)
    for message in cloud.outgoing():
        edge.receive(message, 0.0)
    return edge, cloud


@pytest.mark.parametrize("bytes_per_s", [4_000, 40_000, 1_000_000])
def test_a_flood_of_samples_delays_a_lease_by_less_than_a_second_even_at_32_kbit_s(bytes_per_s):
    edge, cloud = joined()
    link = SlowLink(bytes_per_s)
    lease = encode_batch([Delta(Op.UPSERT, ObjectKey("Lease", "n", "e"), "", 0, body=b"{}" * 40)])
    now, sent_at, waits, moved = 0.0, None, [], 0
    while now < 120:
        now += 0.005
        while edge.room(Lane.SAMPLES) > 0:
            edge.send(Lane.SAMPLES, samples(edge.frame_bytes), None)
        if sent_at is None and now > 30 and int(now) % 3 == 0:
            edge.send(Lane.CONTROL, lease, None)
            sent_at = now
        while messages := edge.outgoing(now):
            for message in messages:
                link.send(message, now)
        for message in link.arrived(now):
            for event in cloud.receive(message, now):
                moved += sum(len(delta.body) for delta in event.deltas)
                if event.lane is Lane.CONTROL:
                    waits.append(now - sent_at)
                    sent_at = None
                cloud.committed(event.lane, event.number)
        for message in cloud.outgoing(now):
            edge.receive(message, now)
    assert len(waits) > 5
    assert max(waits) < 1.0
    assert moved > 0.5 * bytes_per_s * 120  # and yet the link is used


def samples(size):
    return encode_batch([Delta(Op.APPEND, ObjectKey("S", "", "s"), "", 0, 1, b"x" * (size - 40))])


class Download:
    """An edge that streams a log without an end, over a slow link; `waits` is how long frames took, by lane."""

    def __init__(self, bytes_per_s):
        self.edge, self.cloud = joined()
        self.link = SlowLink(bytes_per_s)
        self.stream_id = self.cloud.tunnels.open("logs")
        (opening,) = self.cloud.tunnels.take_control()
        self.edge.tunnels.receive(opening)
        self.edge.tunnels.answer(self.stream_id)
        self.sent_at, self.waits, self.moved = {}, {Lane.CONTROL: [], Lane.PODS: []}, 0

    def write(self, now):
        tunnels = self.edge.tunnels
        if (room := tunnels.room(self.stream_id)) > 0:
            tunnels.send(self.stream_id, bytes(min(room, BATCH_TARGET_BYTES)))
        for lane in self.waits:
            if lane not in self.sent_at and now > 30 and int(now) % 3 == 0:
                key = ObjectKey("Pod", "d", "p")
                self.edge.send(
                    lane, encode_batch([Delta(Op.UPSERT, key, "u", 1, body=b"{}")]), None
                )
                self.sent_at[lane] = now

    def move(self, now):
        while messages := self.edge.outgoing(now):
            for message in messages:
                self.link.send(message, now)
        for message in self.link.arrived(now):
            for event in self.cloud.receive(message, now):
                self.take(event, now)
        for message in self.cloud.outgoing(now):
            self.edge.receive(message, now)

    def take(self, event, now):
        if isinstance(event, StreamCame):
            self.moved += len(event.content)
            self.cloud.tunnels.consumed(self.stream_id, len(event.content))
        elif isinstance(event, Received):
            self.waits[event.lane].append(now - self.sent_at.pop(event.lane))
            self.cloud.committed(event.lane, event.number)


@pytest.mark.parametrize("bytes_per_s", [4_000, 1_000_000])
def test_a_download_delays_neither_a_lease_nor_a_delta_even_at_32_kbit_s(bytes_per_s):
    download = Download(bytes_per_s)
    for step in range(90 * 200):
        now = step * 0.005
        download.write(now)
        download.move(now)
    waits = download.waits
    assert min(map(len, waits.values())) > 5
    assert max(map(max, waits.values())) < 1.0
    # And yet the link is used; at the fast one a window over the test's own steps is the limit.
    assert download.moved > 0.5 * min(bytes_per_s, 500_000) * 90


def test_a_slow_reader_holds_keys_and_not_bodies():
    body = b"%032d" * 64
    held, index = {}, RecordIndex()
    keys = [ObjectKey("Pod", "default", f"web-{n}") for n in range(10)]
    reads = Counter()

    def read(key):
        reads[key] += 1
        return Delta(Op.UPSERT, key, "u", held[key], body=body % ((held[key],) * 64))

    cloud = CloudSession(0.0, heartbeat_s=5, window_frames=16)
    cloud.receive(Hello("e", b"d" * 16, index.digest(), 0, "1", "b"), 0.0)
    cloud.accept(index, read, "s")
    cloud.outgoing()
    for number in range(10_000):  # nobody takes what is to be written
        key = keys[number % 10]
        held[key] = number
        cloud.changed(key, number)
        cloud.pump()
    bodies = sum(len(f.batch) for frames in cloud._queue._waiting.values() for f in frames)
    assert bodies <= 2 * BATCH_TARGET_BYTES
    assert cloud.pending_count <= 10
    assert reads.total() <= 20  # nothing was encoded that then waits for long


@settings(max_examples=30)
@given(st.lists(st.sampled_from([Lane.PODS, Lane.TWINS, Lane.SAMPLES]), max_size=200))
def test_what_is_queued_always_arrives_acknowledged_and_in_order(lanes):
    edge, cloud = joined()
    sent, came, acknowledged, now = [], [], [], 0.0
    todo = list(lanes)
    for _ in range(2000):
        now += 0.01
        if todo and edge.room(todo[0]) > 0:
            lane = todo.pop(0)
            delta = Delta(Op.UPSERT, ObjectKey("K", "", str(len(sent))), "", 0, body=b"b" * 3000)
            edge.send(lane, encode_batch([delta]), len(sent))
            sent.append((lane, delta.key))
        for message in edge.outgoing(now):
            for event in cloud.receive(message, now):
                assert isinstance(event, Received)
                came += [(event.lane, delta.key) for delta in event.deltas]
                cloud.committed(event.lane, event.number)
        for message in cloud.outgoing(now):
            for event in edge.receive(message, now):
                assert isinstance(event, Acknowledged)
                acknowledged += event.tokens
    assert len(sent) == len(lanes)
    assert sorted(acknowledged) == list(range(len(sent)))
    for lane in Lane:
        assert [k for other, k in came if other is lane] == [k for o, k in sent if o is lane]


def test_of_two_idle_ends_only_the_edge_pings():
    edge, cloud = joined()
    pings = {"edge": 0, "cloud": 0}
    for step in range(1, 1000):
        now = step * 0.1
        edge.tick(now)
        cloud.tick(now)
        for message in edge.outgoing(now):
            pings["edge"] += isinstance(message, Ping)
            cloud.receive(message, now)
        for message in cloud.outgoing(now):
            pings["cloud"] += isinstance(message, Ping)
            edge.receive(message, now)
    assert (pings["edge"] > 15, pings["cloud"]) == (True, 0)
