"""Questions and answers: whatever the order, each is answered at most once; a hostile peer is cut off or ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synccore.asking import TOO_MANY, Answered, Asked, AskError
from synccore.errors import FrameNumberError, LimitError
from synccore.messages import MAX_ASK_BYTES, MAX_OUTSTANDING_ASKS, Answer, Ask, State
from tests.synccore.test_sessions import Cloud, Edge, at, talk


def joined():
    """Both ends, live."""
    edge, cloud = Edge(), Cloud({})
    talk(edge, cloud)
    return edge.session, cloud.session


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=MAX_OUTSTANDING_ASKS), st.randoms())
def test_questions_are_answered_in_any_order_and_each_once(bodies, rng):
    edge, cloud = joined()
    ids = [edge.ask("Echo", body) for body in bodies]
    asked = [e for m in edge.outgoing() for e in cloud.receive(m, 0.0)]
    assert asked == [Asked(i, "Echo", body) for i, body in zip(ids, bodies, strict=True)]
    rng.shuffle(asked)
    for one in asked:
        cloud.answer(one.id, 200, one.body)
    answers = cloud.outgoing()
    events = [e for m in answers for e in edge.receive(m, 0.0)]
    assert events == [Answered(one.id, 200, one.body) for one in asked]
    assert [e for m in answers for e in edge.receive(m, 0.0)] == []  # said twice: no harm


def test_a_question_goes_before_every_frame_that_waits():
    edge, _ = joined()
    edge.send(3, b"x" * 1000, None)
    edge.ask("Echo", b"")
    assert isinstance(edge.outgoing()[0], Ask)


def test_one_question_too_many_is_refused_by_both_ends_and_the_session_goes_on():
    edge, cloud = joined()
    for _ in range(MAX_OUTSTANDING_ASKS):
        edge.ask("Echo", b"")
    with pytest.raises(AskError, match="64 questions wait") as caught:
        edge.ask("Echo", b"")
    assert caught.value.retryable
    for message in edge.outgoing():
        cloud.receive(message, 0.0)
    assert cloud.receive(Ask(MAX_OUTSTANDING_ASKS + 1, "Echo", b""), 0.0) == []
    assert [(m.id, m.status) for m in cloud.outgoing()] == [(MAX_OUTSTANDING_ASKS + 1, TOO_MANY)]
    cloud.answer(1, 200, b"")
    assert cloud.receive(Ask(MAX_OUTSTANDING_ASKS + 2, "Echo", b""), 0.0) != []


def test_an_answer_that_comes_too_late_is_dropped():
    edge, _ = joined()
    number = edge.ask("Echo", b"")
    edge.forget_ask(number)
    assert edge.receive(Answer(number, 200, b""), 0.0) == []
    assert edge.state is State.LIVE


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_an_answer_to_what_was_never_asked_ends_the_session(number):
    edge, _ = joined()
    edge.ask("Echo", b"")
    with pytest.raises(FrameNumberError):
        edge.receive(Answer(number, 200, b""), 0.0)
    assert edge.state is State.CLOSED


@pytest.mark.parametrize("number", [0, 2, 2**64 - 1])
def test_a_question_out_of_sequence_ends_the_session(number):
    _, cloud = joined()
    with pytest.raises(FrameNumberError):
        cloud.receive(Ask(number, "Echo", b""), 0.0)
    assert cloud.outgoing()[-1].code == "BAD_NUMBER"


def test_bodies_are_bounded_both_ways():
    edge, cloud = joined()
    with pytest.raises(AskError, match="the limit is 65536"):
        edge.ask("Echo", bytes(MAX_ASK_BYTES + 1))
    edge.ask("Echo", b"")
    with pytest.raises(LimitError):
        edge.receive(Answer(1, 200, bytes(MAX_ASK_BYTES + 1)), 0.0)
    with pytest.raises(LimitError):
        cloud.receive(Ask(1, "Echo", bytes(MAX_ASK_BYTES + 1)), 0.0)


def test_an_answer_that_is_too_large_is_replaced_by_one_that_says_so():
    _, cloud = joined()
    cloud.receive(Ask(1, "Echo", b""), 0.0)
    cloud.answer(1, 200, bytes(MAX_ASK_BYTES + 1))
    (answer,) = cloud.outgoing()
    assert (answer.status, answer.body) == (
        500,
        b"an answer of 65537 bytes, and the limit is 65536",
    )


def test_an_answer_after_the_end_is_dropped():
    session = at(State.LIVE, "cloud")
    session.receive(Ask(1, "Echo", b""), 0.0)
    session.close("X", "")
    session.outgoing()
    session.answer(1, 200, b"")
    assert session.outgoing() == []
