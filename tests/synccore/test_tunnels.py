"""Byte streams in a session: what was written is read, in order; credit bounds what waits; a lying peer is refused."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corekit.errors import ProtocolError
from synccore.errors import LimitError, StreamRuleError
from synccore.lanes import START_BUDGET_BYTES, LaneQueue
from synccore.messages import (
    BATCH_TARGET_BYTES,
    Close,
    Frame,
    Lane,
    State,
    TunnelBytes,
    TunnelClosed,
    TunnelCredit,
    TunnelOpen,
    TunnelOpened,
)
from synccore.tunnels import (
    CODES,
    FAILED,
    MAX_CONTROL,
    MAX_PIECE_BYTES,
    MAX_STREAMS,
    MAX_TARGET_BYTES,
    TOO_MANY,
    WINDOW_BYTES,
    StreamAnswered,
    StreamCame,
    StreamGone,
    StreamRoom,
    StreamWanted,
    Tunnels,
)
from tests.synccore.test_sessions import live


def end():
    return Tunnels(on_waiting=lambda: None)


class Pair:
    """Both ends; `move()` carries everything that waits, `events` says what came, by end."""

    def __init__(self, limit_bytes=1000):
        self.limit_bytes = limit_bytes
        self.cloud, self.edge = end(), end()
        self.events = {"cloud": [], "edge": []}

    def move(self):
        for name, here, there in (
            ("edge", self.cloud, self.edge),
            ("cloud", self.edge, self.cloud),
        ):
            for message in here.take_control():
                self.events[name] += there.receive(message)
            while (piece := here.next_piece(self.limit_bytes)) is not None:
                assert len(piece.content) <= self.limit_bytes
                self.events[name] += there.receive(piece)

    def opened(self):
        stream_id = self.cloud.open("t")
        self.move()
        self.edge.answer(stream_id)
        self.move()
        return stream_id

    def came(self, name, stream_id):
        return b"".join(
            e.content
            for e in self.events[name]
            if isinstance(e, StreamCame) and e.stream_id == stream_id
        )


def test_a_stream_opens_carries_both_ways_and_is_over_when_both_have_ended():
    pair = Pair()
    stream_id = pair.opened()
    assert pair.events["edge"] == [StreamWanted(1, "t")]
    assert pair.events["cloud"] == [StreamAnswered(1, "", "")]
    pair.cloud.send(stream_id, b"stdin", end=True)
    pair.move()
    pair.edge.send(stream_id, b"still talking")  # stdin has ended, the command goes on
    pair.edge.send(stream_id, b"", end=True)
    pair.move()
    assert pair.came("edge", stream_id) == b"stdin"
    assert pair.came("cloud", stream_id) == b"still talking"
    assert len(pair.cloud) == len(pair.edge) == 0


def test_a_refusal_has_a_word_and_leaves_nothing():
    pair = Pair()
    stream_id = pair.cloud.open("t")
    pair.move()
    pair.edge.answer(stream_id, "NotFound", 'pod "x" not found')
    pair.move()
    assert pair.events["cloud"] == [StreamAnswered(1, "NotFound", 'pod "x" not found')]
    assert len(pair.cloud) == len(pair.edge) == 0


def test_a_word_that_nobody_knows_is_a_failure():
    cloud = end()
    stream_id = cloud.open("t")
    assert cloud.receive(TunnelOpened(stream_id, "x", "Redirect")) == [
        StreamAnswered(1, FAILED, "x")
    ]
    assert FAILED in CODES


def test_what_nobody_takes_stops_at_the_window_and_goes_on_when_it_is_taken():
    pair = Pair(MAX_PIECE_BYTES)
    stream_id = pair.opened()
    assert pair.edge.room(stream_id) == WINDOW_BYTES
    pair.edge.send(stream_id, bytes(WINDOW_BYTES))
    pair.move()
    assert pair.edge.room(stream_id) == 0
    pair.cloud.consumed(stream_id, WINDOW_BYTES // 2)
    pair.move()
    assert pair.events["edge"][-1] == StreamRoom(stream_id)
    assert pair.edge.room(stream_id) == WINDOW_BYTES // 2


def test_the_hundred_and_twenty_ninth_stream_is_refused_and_the_others_live():
    edge = end()
    for number in range(1, MAX_STREAMS + 1):
        edge.receive(TunnelOpen(number, "t"))
        edge.answer(number)
    edge.take_control()
    assert edge.receive(TunnelOpen(MAX_STREAMS + 1, "t")) == []
    (answer,) = edge.take_control()
    assert answer.code == TOO_MANY
    assert len(edge) == MAX_STREAMS


def test_streams_take_turns_whatever_one_of_them_has():
    pair = Pair(100)
    loud, quiet = pair.opened(), pair.opened()
    pair.edge.send(loud, bytes(10_000))
    pair.edge.send(quiet, b"echo")
    assert [pair.edge.next_piece(100).stream_id for _ in range(3)] == [loud, quiet, loud]


def test_a_closed_stream_may_still_be_spoken_to_for_what_was_under_way_and_no_more():
    pair = Pair(MAX_PIECE_BYTES)
    stream_id = pair.opened()
    pair.cloud.close(stream_id, "the client went")
    late = TunnelBytes(stream_id, bytes(MAX_PIECE_BYTES))
    for _ in range(WINDOW_BYTES // MAX_PIECE_BYTES):
        assert pair.cloud.receive(late) == []
    with pytest.raises(StreamRuleError, match="is over"):
        pair.cloud.receive(TunnelBytes(stream_id, b"x"))
    pair.move()
    assert pair.events["edge"][-1] == StreamGone(stream_id, "the client went")


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        pytest.param(TunnelBytes(9, b"x"), StreamRuleError, "never opened", id="unknown-bytes"),
        pytest.param(TunnelCredit(9, 1), StreamRuleError, "never opened", id="unknown-credit"),
        pytest.param(TunnelClosed(0), StreamRuleError, "never opened", id="zero-id"),
        pytest.param(TunnelOpened(1), StreamRuleError, "answered twice", id="second-answer"),
        pytest.param(TunnelOpened(9), StreamRuleError, "never opened", id="unknown-answer"),
        pytest.param(TunnelBytes(1, b""), StreamRuleError, "without bytes", id="empty-piece"),
        pytest.param(TunnelBytes(2, b"x"), StreamRuleError, "before the answer", id="early-bytes"),
        pytest.param(TunnelCredit(1, 0), StreamRuleError, "credit of 0", id="no-credit"),
        pytest.param(TunnelCredit(1, 1), StreamRuleError, "credit of 1", id="credit-for-nothing"),
        pytest.param(
            TunnelBytes(1, bytes(MAX_PIECE_BYTES + 1)), LimitError, "piece bytes", id="large-piece"
        ),
    ],
)
def test_a_lying_edge_is_refused(message, error, words):
    cloud = end()
    cloud.open("t")
    cloud.open("t")
    cloud.receive(TunnelOpened(1))
    with pytest.raises(error, match=words):
        cloud.receive(message)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        pytest.param(TunnelOpen(5, "t"), StreamRuleError, id="id-again"),
        pytest.param(TunnelOpen(4, "t"), StreamRuleError, id="id-backwards"),
        pytest.param(TunnelOpen(6, "x" * (MAX_TARGET_BYTES + 1)), LimitError, id="long-target"),
        pytest.param(TunnelBytes(5, b"x"), StreamRuleError, id="bytes-before-our-answer"),
    ],
)
def test_a_lying_cloud_is_refused(message, error):
    edge = end()
    edge.receive(TunnelOpen(5, "t"))
    with pytest.raises(error):
        edge.receive(message)


def test_bytes_without_credit_and_bytes_after_the_end_are_refused():
    cloud = end()
    cloud.open("t")
    cloud.receive(TunnelOpened(1))
    for _ in range(WINDOW_BYTES // MAX_PIECE_BYTES):
        cloud.receive(TunnelBytes(1, bytes(MAX_PIECE_BYTES)))
    with pytest.raises(StreamRuleError, match="1 bytes without credit"):
        cloud.receive(TunnelBytes(1, b"x"))
    cloud.receive(TunnelBytes(1, b"", end=True))
    with pytest.raises(StreamRuleError, match="after the end"):
        cloud.receive(TunnelBytes(1, b"", end=True))


def test_a_flood_of_openings_that_nobody_reads_the_answers_of_ends_the_session():
    edge = live("edge")
    for number in range(1, MAX_CONTROL + 2):
        for event in edge.receive(TunnelOpen(number, "t"), 0.0):
            edge.tunnels.answer(event.stream_id, "NotFound", "x")
    with pytest.raises(LimitError, match="answers about streams"):
        edge.receive(TunnelOpen(MAX_CONTROL + 2, "t"), 0.0)
    assert edge.state is State.CLOSED
    assert isinstance(edge.outgoing()[-1], Close)


def test_a_broken_rule_ends_the_session_with_its_code():
    cloud = live("cloud")
    with pytest.raises(StreamRuleError):
        cloud.receive(TunnelBytes(7, b"x"), 0.0)
    assert cloud.outgoing()[-1].code == "BAD_STREAM"
    assert cloud.tunnels.room(7) == 0  # whoever still holds a stream finds it empty


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["cloud", "edge"]), st.binary(max_size=3000)),
        st.tuples(st.just("take"), st.sampled_from(["cloud", "edge"]), st.integers(1, 5000)),
        st.tuples(st.just("end"), st.sampled_from(["cloud", "edge"]), st.none()),
        st.tuples(st.just("move"), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 2000))
def test_whatever_is_written_is_read_in_order_and_never_more_than_a_window_waits(steps, limit):
    pair = Pair(limit)
    stream_id = pair.opened()
    sent = {"cloud": b"", "edge": b""}
    ended = set()
    taken = {"cloud": 0, "edge": 0}
    ends = {"cloud": pair.cloud, "edge": pair.edge}
    other = {"cloud": "edge", "edge": "cloud"}
    for what, who, value in steps:
        if what == "move":
            pair.move()
        elif what == "take":
            count = min(value, len(pair.came(who, stream_id)) - taken[who])
            taken[who] += count
            ends[who].consumed(stream_id, count)
        elif who not in ended:
            content = (value or b"")[: ends[who].room(stream_id)]
            ends[who].send(stream_id, content, end=what == "end")
            sent[who] += content
            ended |= {who} if what == "end" else set()
        for name in ends:
            assert len(sent[name]) - taken[other[name]] <= WINDOW_BYTES
    pair.move()
    for name in ends:
        assert pair.came(other[name], stream_id) == sent[name]
    assert (len(pair.cloud) == 0) == (len(ended) == 2)


MESSAGES = st.one_of(
    st.builds(TunnelOpen, st.integers(0, 5), st.just("t")),
    st.builds(TunnelOpened, st.integers(0, 5), st.just(""), st.sampled_from(["", "NotFound"])),
    st.builds(TunnelBytes, st.integers(0, 5), st.binary(max_size=10), st.booleans()),
    st.builds(TunnelCredit, st.integers(0, 5), st.integers(0, 2**32 - 1)),
    st.builds(TunnelClosed, st.integers(0, 5)),
)


@given(st.lists(MESSAGES, max_size=30), st.sampled_from(["cloud", "edge"]))
def test_any_messages_are_taken_or_refused_and_what_is_kept_stays_bounded(messages, which):
    here = end()
    if which == "cloud":
        for _ in range(3):
            here.open("t")
    for message in messages:
        try:
            for event in here.receive(message):
                if isinstance(event, StreamWanted):
                    here.answer(event.stream_id)
        except ProtocolError:
            break
        assert len(here) <= MAX_STREAMS
        assert all(0 <= here.room(number) <= WINDOW_BYTES for number in range(6))


class Source:
    """A stream that always has more."""

    def __init__(self):
        self.sent = 0

    def next_piece(self, limit):
        self.sent += limit
        return TunnelBytes(1, bytes(limit))


def test_a_download_leaves_the_other_lanes_their_shares_and_a_heartbeat_waits_for_a_budget_at_most():
    queue, source = LaneQueue(), Source()
    queue.next_piece = source.next_piece
    queue.streams_wait()
    out = sum(len(getattr(p, "content", b"")) for _ in range(100) for p in queue.take())
    assert out <= START_BUDGET_BYTES + BATCH_TARGET_BYTES
    queue.put(Frame(Lane.CONTROL, 1, b"lease"))
    assert queue.take()[0].lane is Lane.CONTROL
    pods, waiting = 0, deque(range(10_000))
    start = source.sent
    for ping in range(1, 400):
        while queue.waiting(Lane.PODS) < 2:
            queue.put(Frame(Lane.PODS, waiting.popleft(), bytes(queue.frame_bytes)))
        pods += sum(len(f.batch) for f in queue.take() if isinstance(f, Frame))
        queue.link.pinged(ping, 0.0)
        queue.link.ponged(ping, 0.001)
    streamed = source.sent - start
    assert pods > 6 * streamed  # eight shares to one, but for the grain of a piece
    assert streamed > 0
