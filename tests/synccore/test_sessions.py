"""Both ends of a stream, joined in memory: they converge, fail closed, and never lose an acknowledged frame."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ProtocolError
from synccore.cloud_session import CloudSession, Joining
from synccore.codec import encode_batch
from synccore.compression import shrink
from synccore.edge_session import Converged, EdgeSession, Joined
from synccore.errors import (
    FrameNumberError,
    LimitError,
    SessionClosedError,
    UnexpectedMessageError,
)
from synccore.index import RecordIndex, record_version
from synccore.messages import (
    MAX_INVENTORY_PAGE_BYTES,
    Ack,
    Answer,
    Ask,
    Close,
    Delta,
    Frame,
    Hello,
    Inventory,
    Lane,
    ObjectKey,
    Op,
    Ping,
    Pong,
    Rejected,
    ReportAll,
    State,
    Summary,
    Synced,
    TunnelBytes,
    TunnelClosed,
    TunnelCredit,
    TunnelOpen,
    TunnelOpened,
    Wanted,
    Welcome,
)
from synccore.session import MAX_WAITING_MESSAGES, Acknowledged, PeerSilentError, Received
from synccore.wire import edge_to_wire, from_wire

EVERY_MESSAGE = [
    Hello("edge-1", b"d" * 16, b"g" * 16, 0, "1", "boot", horizon=7),
    Welcome(in_sync=True, heartbeat_s=5, window_frames=4, session_id="s", horizon=7),
    Summary(bytes(64)),
    Wanted(bytes(1)),
    Inventory(b"", last=True),
    Frame(Lane.SAMPLES, 1, encode_batch([]), horizon=7),
    Ack(Lane.PODS, 0),
    Synced(),
    ReportAll(),
    Ping(1),
    Pong(0),
    Close("X", "y"),
    TunnelOpen(2, "t"),
    TunnelOpened(2),
    TunnelBytes(1, b"x", end=True),
    TunnelCredit(1, 1),
    TunnelClosed(1),
    Rejected(Lane.PODS, ObjectKey("Pod", "default", "x"), 1, 1, "odd"),
    Ask(1, "TokenRequest", b"{}"),
    Answer(1, 200, b"{}"),
]


class Cloud:
    """The records a node must hold, and the cloud's end."""

    def __init__(self, records):
        self.records, self.index = {}, RecordIndex()
        self.session = CloudSession(0.0, heartbeat_s=5, window_frames=4)
        for key, body in records.items():
            self.put(key, body)

    def put(self, key, body):
        self.records[key] = body
        self.index.put(key, record_version("u", body))

    def drop(self, key):
        del self.records[key]
        self.index.drop(key)

    def read(self, key):
        body = self.records.get(key)
        return body and Delta(Op.UPSERT, key, "u", record_version("u", body), body=body)

    def step(self, message):
        for event in self.session.receive(message, 0.0):
            if isinstance(event, Joining):
                self.session.accept(self.index, self.read, "s")
        self.session.pump()


class Edge:
    """What a node holds, and its end."""

    def __init__(self, records=()):
        self.records, self.index = dict(records), RecordIndex()
        for key, body in self.records.items():
            self.index.put(key, record_version("u", body))
        hello = Hello("edge-1", b"d" * 16, self.index.digest(), len(self.index), "1", "b")
        self.session = EdgeSession(hello, self.index.entries, 0.0)
        self.applied = 0
        self.events = []

    def step(self, message):
        for event in self.session.receive(message, 0.0):
            self.events.append(event)
            if isinstance(event, Received):
                for delta in event.deltas:
                    self.apply(delta)
                self.session.committed(event.lane, event.number)

    def apply(self, delta):
        self.applied += 1
        if delta.op is Op.UPSERT:
            self.records[delta.key] = delta.body
            self.index.put(delta.key, delta.version)
            return
        key = self.index.key_of(delta.version) if delta.op is Op.FORGET else delta.key
        self.records.pop(key, None)
        if key is not None:
            self.index.drop(key)


def talk(edge, cloud):
    """Pass messages until both are silent."""
    while True:
        cloud.session.pump()
        up, down = edge.session.outgoing(), cloud.session.outgoing()
        if not up and not down:
            return
        for message in up:
            cloud.step(message)
        for message in down:
            edge.step(message)


KEYS = st.builds(
    ObjectKey, st.sampled_from(["Pod", "Device"]), st.just("default"), st.sampled_from("abcdef")
)
RECORDS = st.dictionaries(KEYS, st.sampled_from([b"1", b"2", b"3"]), max_size=8)
CHANGES = st.lists(st.tuples(KEYS, st.sampled_from([b"4", b"5", None])), max_size=12)


@given(RECORDS, RECORDS, CHANGES)
def test_whatever_both_sides_hold_they_converge_and_only_differences_move(held, wanted, changes):
    edge, cloud = Edge(held), Cloud(wanted)
    different = sum(held.get(k) != wanted.get(k) for k in held.keys() | wanted.keys())
    talk(edge, cloud)
    assert (edge.records, edge.applied) == (cloud.records, different)
    for key, body in changes:
        if body is None and key in cloud.records:
            cloud.drop(key)
        elif body is not None:
            cloud.put(key, body)
        cloud.session.changed(key)
    talk(edge, cloud)
    assert edge.records == cloud.records
    assert edge.session.state is cloud.session.state is State.LIVE


def test_equal_digests_move_not_one_record():
    records = {ObjectKey("Pod", "default", "web"): b"1"}
    edge, cloud = Edge(records), Cloud(records)
    talk(edge, cloud)
    assert edge.events == [Joined(in_sync=True, session_id="s")]


def test_a_resync_ends_with_converged_even_if_nothing_is_left_to_send():
    edge, cloud = Edge({ObjectKey("Pod", "default", "old"): b"1"}), Cloud({})
    talk(edge, cloud)
    assert (edge.records, edge.events[-1]) == ({}, Converged())


def test_a_key_that_changes_a_thousand_times_before_it_is_sent_is_sent_once():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    for number in range(1000):
        cloud.put(ObjectKey("Pod", "default", "web"), b"%d" % number)
        cloud.session.changed(ObjectKey("Pod", "default", "web"))
    talk(edge, cloud)
    assert (edge.applied, list(edge.records.values())) == (1, [b"999"])


def test_the_window_bounds_what_is_in_flight_and_acks_return_the_tokens():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    for number in range(4):
        edge.session.send(Lane.TWINS, encode_batch([]), number)
        edge.session.outgoing()
    assert (edge.session.room(Lane.TWINS), edge.session.room(Lane.PODS)) == (0, 2)
    assert edge.session.receive(Ack(Lane.TWINS, 3), 0.0) == [Acknowledged(Lane.TWINS, [0, 1, 2])]
    assert edge.session.room(Lane.TWINS) == 2  # of three that the window takes: few may wait


def test_a_peer_that_exceeds_the_window_is_cut_off():
    _, cloud = Edge(), Cloud({})
    cloud.step(EVERY_MESSAGE[0])
    cloud.step(Inventory(b"", last=True))
    for number in range(1, 5):
        cloud.step(Frame(Lane.PODS, number, encode_batch([])))
    with pytest.raises(LimitError):
        cloud.step(Frame(Lane.PODS, 5, encode_batch([])))


def large_batch(size_bytes=2 << 20):
    key = ObjectKey("Device", "default", "lamp")
    return encode_batch([Delta(Op.UPSERT, key, "u", 1, body=b"0" * (size_bytes - 100))])


def pass_on(end, other):
    """Let `other` take the frames of `end`; return their numbers."""
    numbers = []
    while messages := end.session.outgoing():
        for message in messages:
            other.session.receive(message, 0.0)
            numbers += [message.number] if isinstance(message, Frame) else []
    return numbers


def test_the_bytes_of_a_lane_are_bounded_as_its_frames_are_and_no_lane_takes_them_from_another():
    edge, cloud = Edge(), Cloud({})
    edge.session.window_frames = cloud.session.window_frames = 16
    talk(edge, cloud)
    edge.session.window_frames = 16
    numbers = []
    for _ in range(40):  # the cloud answers pings, and makes nothing durable
        if edge.session.room(Lane.TWINS) > 0:
            edge.session.send(Lane.TWINS, large_batch(), None)
        numbers += pass_on(edge, cloud)
        pass_on(cloud, edge)
    # Two MiB each, which are two KiB when compressed.
    assert len(numbers) in (4, 5)
    assert edge.session.room(Lane.PODS) > 0
    cloud.session.committed(Lane.TWINS, 1)
    pass_on(cloud, edge)
    assert edge.session.room(Lane.TWINS) > 0
    edge.session.send(Lane.TWINS, large_batch(), None)
    assert pass_on(edge, cloud) == [len(numbers) + 1]


def test_a_peer_whose_small_frames_inflate_to_more_than_a_lane_may_hold_is_cut_off():
    _, cloud = Edge(), Cloud({})
    cloud.session.window_frames = 16
    cloud.step(EVERY_MESSAGE[0])
    cloud.step(Inventory(b"", last=True))
    compression, batch = shrink(large_batch())
    assert len(batch) < 10_000
    frames = [
        Frame(Lane.PODS, number, batch, compression, len(large_batch())) for number in range(1, 7)
    ]
    with pytest.raises(LimitError, match="bytes in flight"):
        list(map(cloud.step, frames))
    assert cloud.session.outgoing()[-1].code == "TOO_LARGE"


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_a_frame_out_of_sequence_ends_the_session_with_a_coded_close(number):
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    with pytest.raises(FrameNumberError):
        edge.step(Frame(Lane.PODS, number, encode_batch([])))
    assert [m.code for m in edge.session.outgoing()] == ["BAD_NUMBER"]
    assert edge.session.state is State.CLOSED


def test_an_ack_for_what_was_never_sent_ends_the_session():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    with pytest.raises(FrameNumberError):
        cloud.step(Ack(Lane.PODS, 1))


def test_pings_are_answered_and_silence_is_noticed_within_two_heartbeats():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    edge.session.tick(5.0)
    assert edge.session.outgoing() == [Ping(2)]  # the first was sent on joining
    edge.session.receive(Pong(2), 6.0)
    edge.session.tick(15.9)
    with pytest.raises(PeerSilentError):
        edge.session.tick(16.0)


def test_a_close_of_the_peer_ends_the_session_and_carries_its_reason():
    edge = Edge()
    with pytest.raises(SessionClosedError, match="in use"):
        edge.step(Close("NODE_NAME_IN_USE", "in use", 5.0))
    assert edge.session.state is State.CLOSED


@pytest.mark.parametrize(
    "message",
    [
        Welcome(in_sync=True, heartbeat_s=5, window_frames=4, session_id="s", protocol=9),
        Welcome(in_sync=True, heartbeat_s=0, window_frames=4, session_id="s"),
        Welcome(in_sync=True, heartbeat_s=5, window_frames=0, session_id="s"),
        Welcome(in_sync=True, heartbeat_s=5, window_frames=2**31, session_id="s"),
    ],
)
def test_a_welcome_with_terms_nobody_can_keep_is_refused(message):
    with pytest.raises(ProtocolError):
        Edge().step(message)


def at(session_state, end):
    """Return an end of a stream in that state."""
    edge, cloud = Edge({ObjectKey("Pod", "default", "x"): b"1"}), Cloud({})
    hello = edge.session.outgoing()[0]
    if session_state is not State.JOINING:
        cloud.step(hello)
        edge.step(cloud.session.outgoing()[0])
    if session_state is State.LIVE:
        talk(edge, cloud)
    if session_state in (State.SYNCING, State.LIVE):
        with_a_stream(edge.session, cloud.session)
        edge.session.ask("TokenRequest", b"")  # so that there is something to answer
    if session_state is State.CLOSED:
        edge.session.close("X", "")
        cloud.session.close("X", "")
    return (edge if end == "edge" else cloud).session


def with_a_stream(edge, cloud):
    """Stream 1 is open at both ends and a byte of each is under way; stream 2 the cloud has asked for."""
    cloud.tunnels.open("t")
    cloud.tunnels.open("t")
    edge.tunnels.receive(TunnelOpen(1, "t"))
    edge.tunnels.answer(1)
    cloud.tunnels.receive(TunnelOpened(1))
    for end in (edge, cloud):
        end.tunnels.send(1, b"x")
        end.tunnels.next_piece(1)


LEGAL = {
    "edge": {
        State.JOINING: {Welcome, Close},
        State.SYNCING: {
            Frame,
            Ack,
            Ping,
            Pong,
            Close,
            Synced,
            ReportAll,
            Answer,
            TunnelOpen,
            TunnelBytes,
            TunnelCredit,
            TunnelClosed,
        },
        State.LIVE: {
            Frame,
            Ack,
            Ping,
            Pong,
            Close,
            ReportAll,
            Answer,
            TunnelOpen,
            TunnelBytes,
            TunnelCredit,
            TunnelClosed,
        },
        State.CLOSED: set(),
    },
    "cloud": {
        State.JOINING: {Hello, Close},
        State.SYNCING: {
            *(Frame, Ack, Ping, Pong, Close, Summary, Inventory, Rejected, Ask),
            *(TunnelOpened, TunnelBytes, TunnelCredit, TunnelClosed),
        },
        State.LIVE: {
            *(Frame, Ack, Ping, Pong, Close, Rejected, Ask),
            *(TunnelOpened, TunnelBytes, TunnelCredit, TunnelClosed),
        },
        State.CLOSED: set(),
    },
}


@pytest.mark.parametrize(
    ("end", "state", "message"),
    [
        pytest.param(end, state, message, id=f"{end}-{state.value}-{type(message).__name__}")
        for end, state, message in itertools.product(LEGAL, State, EVERY_MESSAGE)
    ],
)
def test_every_pair_of_state_and_message_has_a_step_or_fails_closed(end, state, message):
    session = at(state, end)
    assert session.state is state
    if type(message) in LEGAL[end][state]:
        try:
            session.receive(message, 0.0)
        except SessionClosedError:
            assert isinstance(message, Close)
        return
    with pytest.raises(ProtocolError):
        session.receive(message, 0.0)
    assert session.state is State.CLOSED


def test_an_inventory_page_too_large_or_after_the_last_is_refused():
    for pages, error in (
        ([Inventory(bytes(MAX_INVENTORY_PAGE_BYTES + 16), last=True)], LimitError),
        ([Inventory(b"", last=True), Inventory(b"", last=True)], UnexpectedMessageError),
    ):
        edge, cloud = Edge(), Cloud({ObjectKey("Pod", "default", "a"): b"1"})
        for message in edge.session.outgoing():
            cloud.step(message)
        *before, last = pages
        for page in before:
            cloud.session.receive(page, 0.0)
        with pytest.raises(error):
            cloud.session.receive(last, 0.0)
        assert cloud.session.outgoing()[-1].code == error.code


def live(end, window=4):
    """Return one end of a stream that is live, with all it had to say taken."""
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    session = (edge if end == "edge" else cloud).session
    session.window_frames = window
    return session


SPOKEN = st.sampled_from(["ping", "pong", "ack", "reject", "report-all", "frame", "commit", "tick"])


@pytest.mark.parametrize("end", ["edge", "cloud"])
@given(st.lists(st.tuples(SPOKEN, st.sampled_from(Lane)), max_size=200))
def test_what_waits_for_a_peer_that_talks_and_does_not_read_is_bounded(end, spoken):
    session, received = live(end), dict.fromkeys(Lane, 0)
    now, committed = 0.0, dict.fromkeys(Lane, 0)
    for number, (what, lane) in enumerate(spoken, start=1):
        now += 0.045  # 200 steps are less than two heartbeats: it talks, whatever it leaves out
        try:
            match what:
                case "ping":
                    session.receive(Ping(number), now)
                case "pong":
                    session.receive(Pong(0), now)
                case "ack":
                    session.receive(Ack(lane, 0), now)
                case "frame":
                    session.receive(Frame(lane, received[lane] + 1, encode_batch([])), now)
                    received[lane] += 1
                case "commit" if committed[lane] < received[lane]:
                    committed[lane] += 1
                    session.committed(lane, committed[lane])
                case "report-all" if end == "cloud":
                    session.ask_reports()
                case "tick":
                    session.tick(now)
        except (
            LimitError
        ):  # a frame beyond the window: nothing was acknowledged that the peer could have read
            assert received[lane] == 4
            assert session.state is State.CLOSED
            break
        # A frame more than the window is never taken, even if all before it are durable.
        assert max(received.values()) <= 4
    waiting = session.outgoing()
    assert len([m for m in waiting if isinstance(m, Pong)]) <= 1
    assert len([m for m in waiting if isinstance(m, Ack)]) <= len(Lane)
    assert len(waiting) <= 2 + len(Lane) + 2  # pong, close; a ping and one ReportAll
    assert not session.outgoing()


def test_of_pongs_and_acknowledgements_that_wait_the_newest_is_said_and_says_it_all():
    session = live("cloud")
    for number in range(1, 4):
        session.receive(Ping(number), 0.0)
        session.receive(Frame(Lane.PODS, number, encode_batch([])), 0.0)
        session.committed(Lane.PODS, number)
    assert session.outgoing() == [Pong(3), Ack(Lane.PODS, 3)]
    assert not session.has_outgoing


def test_a_late_pong_of_a_newer_ping_answers_the_older_ones():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    session = cloud.session
    session.send(Lane.PODS, b"x" * 12_000, None, compress=False)
    pings = [m.number for m in session.outgoing(1.0) if isinstance(m, Ping)]
    assert len(pings) == 1  # half of the budget is used: the link is probed
    assert session._queue.link.under_way_bytes == 12_000
    session.tick(9.0)
    (later,) = [m.number for m in session.outgoing() if isinstance(m, Ping)]
    session.receive(Pong(later), 9.1)
    assert session._queue.link.under_way_bytes == 0


def test_an_end_that_was_late_says_so_and_believes_neither_its_own_times_nor_such_an_answer():
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    lateness = {"edge": False, "cloud": False}
    edge.session._was_late = lambda _since: lateness["edge"]
    cloud.session._was_late = lambda _since: lateness["cloud"]
    link = cloud.session._queue.link
    for number, late in enumerate(["edge", "cloud", None]):
        lateness.update(dict.fromkeys(lateness, False))
        if late:
            lateness[late] = True
        before = link.budget_bytes
        cloud.session.send(Lane.PODS, b"x" * 12_000, None, compress=False)
        cloud.session.outgoing(10.0 * number)
        ping = Ping(cloud.session._pings)
        edge.session.receive(ping, 10.0 * number)
        (pong,) = [m for m in edge.session.outgoing() if isinstance(m, Pong)]
        assert pong.late == (late == "edge")
        assert from_wire(edge_to_wire(pong)) == pong
        cloud.session.receive(pong, 10.0 * number + 3)
        assert link.under_way_bytes == 0
        assert (link.budget_bytes < before) == (late is None)
        cloud.session.receive(Ack(Lane.PODS, number + 1), 10.0 * number + 3)


def test_silence_is_counted_while_somebody_listened_only():
    session = live("cloud")  # a heartbeat of five seconds
    session.tick(9.0)
    session.tick(20.0, late_s=10.5)
    session.tick(20.4)
    with pytest.raises(PeerSilentError, match=r"10\.1 s"):
        session.tick(20.6)


def test_the_close_is_last_whatever_else_waits():
    session = live("edge")
    session.receive(Ping(7), 0.0)
    session.receive(Frame(Lane.PODS, 1, encode_batch([])), 0.0)
    session.committed(Lane.PODS, 1)
    session.close("X", "y")
    assert session.outgoing() == [Pong(7), Ack(Lane.PODS, 1), Close("X", "y")]
    assert not session.outgoing()


def test_a_cloud_that_has_odd_records_refused_and_reads_none_of_it_is_closed():
    session = live("edge")
    odd = Delta(Op.UPSERT, ObjectKey("Gadget", "", "x"), "u", 1, body=b"{}")
    for _ in range(MAX_WAITING_MESSAGES + 1):
        session.rejected(Lane.PODS, odd, "unknown kind")
    with pytest.raises(LimitError, match="wait to be read"):
        session.receive(Ping(1), 0.0)
    assert session.outgoing()[-1].code == "TOO_LARGE"


def test_the_edge_learns_from_welcome_and_pongs_how_wide_to_spread_its_next_dial():
    spread_s = [4.0]
    edge, cloud = Edge(), Cloud({})
    cloud.session = CloudSession(0.0, heartbeat_s=5, window_frames=4, spread_s=lambda: spread_s[0])
    (hello,) = edge.session.outgoing()
    cloud.step(hello)
    welcome, *rest = cloud.session.outgoing()
    edge.step(welcome)
    assert edge.session.spread_s == 4.0
    for message in rest:
        edge.step(message)
    spread_s[0] = 16.0
    talk(edge, cloud)
    assert edge.session.spread_s == 16.0


def many(count, **changed):
    records = {ObjectKey("Pod", "default", f"p{n}"): b"1" for n in range(count)}
    return records | {ObjectKey("Pod", "default", name): body for name, body in changed.items()}


@given(
    st.integers(250, 700),
    st.dictionaries(st.integers(0, 800), st.sampled_from([b"2", None]), max_size=30),
)
def test_many_records_converge_by_a_summary_and_only_differences_move(count, changes):
    held, wanted = many(count), many(count)
    for number, body in changes.items():
        key = ObjectKey("Pod", "default", f"p{number}")
        if body is None:
            wanted.pop(key, None)
        else:
            wanted[key] = body
    edge, cloud = Edge(held), Cloud(wanted)
    different = sum(held.get(k) != wanted.get(k) for k in held.keys() | wanted.keys())
    talk(edge, cloud)
    assert (edge.records, edge.applied) == (wanted, different)
    assert edge.session.state is cloud.session.state is State.LIVE


def test_the_inventory_of_many_records_lists_what_may_differ_and_of_few_all():
    for count, summarized in ((256, False), (5000, True)):
        edge, cloud = Edge(many(count)), Cloud(many(count, p7=b"2"))
        said = []
        while up := edge.session.outgoing():
            said += up
            for message in up:
                cloud.step(message)
            for message in cloud.session.outgoing():
                edge.step(message)
        kinds = [type(m) for m in said if isinstance(m, Summary | Inventory)]
        assert kinds == ([Summary, Inventory] if summarized else [Inventory])
        listed = sum(len(m.entries) for m in said if isinstance(m, Inventory))
        assert listed == 256 * 16 if not summarized else 0 < listed < 100 * 16


def test_a_change_between_summary_and_inventory_is_sent_whatever_its_bucket():
    edge, cloud = Edge(many(500)), Cloud(many(500, p1=b"2"))
    (hello,) = edge.session.outgoing()
    cloud.step(hello)
    for message in cloud.session.outgoing():
        edge.step(message)
    for message in edge.session.outgoing():
        cloud.step(message)
    for number in range(2, 60):
        key = ObjectKey("Pod", "default", f"p{number}")
        cloud.put(key, b"3") if number % 2 else cloud.drop(key)
        cloud.session.changed(key)
    talk(edge, cloud)
    assert edge.records == cloud.records


def test_an_answer_to_a_summary_that_was_never_given_or_does_not_fit_ends_the_session():
    edge, cloud = Edge(many(500)), Cloud(many(500, p1=b"2"))
    (hello,) = edge.session.outgoing()
    cloud.step(hello)
    for message in cloud.session.outgoing():
        edge.step(message)
    with pytest.raises(LimitError, match="buckets wanted"):
        edge.session.receive(Wanted(bytes(1)), 0.0)
    assert edge.session.outgoing()[-1].code == "TOO_LARGE"


@pytest.mark.parametrize("then", [Summary(bytes(64)), Summary(bytes(65))])
def test_a_summary_that_is_not_the_first_after_the_welcome_is_refused(then):
    _, cloud = Edge(), Cloud(many(500))
    cloud.step(EVERY_MESSAGE[0])
    cloud.step(Summary(bytes(64)))
    with pytest.raises(UnexpectedMessageError):
        cloud.step(then)


def test_an_inventory_of_what_was_not_wanted_is_refused():
    cloud = Cloud({})
    cloud.step(EVERY_MESSAGE[0])
    low, high = bytes(7) + b"\1" + bytes(8), b"\xff" * 16
    index = RecordIndex()
    cloud.session._index = index
    cloud.step(Summary(b"x" * 8 + bytes(56)))  # only the first bucket differs from nothing
    with pytest.raises(ProtocolError, match="not wanted"):
        cloud.step(Inventory(low + high, last=True))
    assert cloud.session.outgoing()[-1].code == "BAD_FRAME"
