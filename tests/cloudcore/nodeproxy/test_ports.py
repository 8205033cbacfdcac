"""Ports of nodes: the same again where possible, and nobody else's while others are free."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudcore.nodeproxy.ports import PortBook


def always(_port):
    return True


def test_a_node_has_the_same_port_after_a_restart_of_cloudcore():
    names = [f"edge-{n}" for n in range(20)]
    first = [PortBook(20000, 29999).claim(name, always) for name in names]
    assert first == [PortBook(20000, 29999).claim(name, always) for name in reversed(names)][::-1]


def test_a_node_that_is_away_keeps_its_port_while_others_are_free():
    book = PortBook(1000, 1002)
    a, b = book.claim("a", always), book.claim("b", always)
    book.release("a")
    assert book.claim("c", always) not in (a, b)
    assert book.claim("a", always) == a


def test_the_longest_away_gives_way_when_no_port_is_left():
    book = PortBook(1000, 1001)
    a = book.claim("a", always)
    book.claim("b", always)
    book.release("a")
    assert book.claim("c", always) == a
    assert book.claim("a", always) is None


def test_a_port_that_somebody_else_holds_is_passed_over():
    book = PortBook(1000, 1003)
    wanted = PortBook(1000, 1003).claim("a", always)
    assert book.claim("a", lambda port: port != wanted) not in (None, wanted)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), max_size=60),
    st.integers(1, 6),
)
def test_no_two_nodes_ever_share_a_port(steps, count):
    book, live = PortBook(1000, 999 + count), {}
    for claim, name in steps:
        if claim:
            port = book.claim(
                name, lambda port, name=name: port not in live.values() or live.get(name) == port
            )
            if port is not None:
                live[name] = port
        else:
            book.release(name)
            live.pop(name, None)
        assert len(set(live.values())) == len(live) <= count
        assert all(book.port_of(name) == port for name, port in live.items())
