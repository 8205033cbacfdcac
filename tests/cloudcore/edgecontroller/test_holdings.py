from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudcore.edgecontroller.holdings import Holdings, Move
from cloudcore.edgecontroller.references import Placement
from synccore.messages import ObjectKey


def pod(name):
    return ObjectKey("Pod", "default", name)


def settings(name):
    return ObjectKey("ConfigMap", "default", name)


def on(node, *names):
    return Placement(node, frozenset(settings(n) for n in names))


def test_the_first_reference_brings_a_key_and_the_last_one_takes_it_away():
    holdings = Holdings()
    moves = holdings.place(pod("a"), on("n", "x"))
    assert set(moves) == {Move("n", pod("a"), held=True), Move("n", settings("x"), held=True)}
    assert holdings.place(pod("b"), on("n", "x")) == [Move("n", pod("b"), held=True)]
    assert holdings.place(pod("a"), None) == [Move("n", pod("a"), held=False)]
    assert Move("n", settings("x"), held=False) in holdings.place(pod("b"), None)


def test_a_changed_pod_moves_only_what_changed():
    holdings = Holdings()
    holdings.place(pod("a"), on("n", "x", "y"))
    assert holdings.place(pod("a"), on("n", "y", "z")) == [
        Move("n", settings("x"), held=False),
        Move("n", settings("z"), held=True),
    ]


GROUP = ObjectKey("Service", "default", "")


def service(name):
    return ObjectKey("Service", "default", name)


def test_a_group_brings_its_members_whenever_they_join_and_before_their_owner():
    holdings = Holdings()
    assert holdings.join(GROUP, service("early")) == []
    moves = holdings.place(pod("a"), Placement("n", frozenset({GROUP})))
    assert {m.key for m in moves} == {pod("a"), GROUP, service("early")}
    assert moves[-1].key == pod("a")
    holdings.place(pod("b"), Placement("n", frozenset({GROUP})))
    assert holdings.join(GROUP, service("late")) == [Move("n", service("late"), held=True)]
    assert holdings.join(GROUP, service("late")) == []
    assert holdings.part(GROUP, service("early")) == [Move("n", service("early"), held=False)]
    holdings.place(pod("a"), None)
    assert holdings.holds("n", service("late"))
    assert Move("n", service("late"), held=False) in holdings.place(pod("b"), None)
    assert holdings.held("n") == []


def test_a_member_that_is_referred_to_by_name_too_stays_when_it_parts():
    holdings = Holdings()
    holdings.join(GROUP, service("x"))
    holdings.place(pod("a"), Placement("n", frozenset({GROUP, service("x")})))
    assert holdings.part(GROUP, service("x")) == []
    assert holdings.holds("n", service("x"))
    holdings.place(pod("a"), None)
    assert holdings.holders(service("x")) == frozenset()


PLACEMENTS = st.one_of(
    st.none(),
    st.builds(
        lambda node, names: on(node, *names),
        st.sampled_from(["n1", "n2", None]),
        st.sets(st.sampled_from("xyz")),
    ),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), PLACEMENTS), max_size=30))
def test_counts_equal_a_recount_and_moves_equal_the_difference(steps):
    holdings, placed, told = Holdings(), {}, set()
    for name, placement in steps:
        for move in holdings.place(pod(name), placement):
            assert ((move.node, move.key) in told) != move.held
            (told.add if move.held else told.discard)((move.node, move.key))
        placed[pod(name)] = placement
        expected = {
            (p.node, key)
            for owner, p in placed.items()
            if p is not None and p.node is not None
            for key in (owner, *p.refers)
        }
        assert told == expected
        for node in ("n1", "n2"):
            assert set(holdings.held(node)) == {k for n, k in expected if n == node}
        assert all(holdings.holders(k) == {n for n, o in expected if o == k} for _, k in expected)
