"""Admission: a burst, then a rate; whoever was given a turn gets in at its turn, and nobody has to try twice."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudcore.cloudhub.admission import (
    EARLY_S,
    KEPT_S,
    OWN_APART_S,
    OWN_BURST_COUNT,
    Admission,
)


def storm(admission, nodes, *, late_s=0.0):
    """All nodes come at 0 and return when told; return when each came in, and how often each tried."""
    came_in, tries = {}, dict.fromkeys(nodes, 0)
    queue = [(0.0, node) for node in nodes]
    heapq.heapify(queue)
    while queue:
        now, node = heapq.heappop(queue)
        tries[node] += 1
        wait_s = admission.wait_s(node, now)
        if wait_s == 0:
            came_in[node] = now
        else:
            heapq.heappush(queue, (now + wait_s + late_s, node))
    return came_in, tries


@given(st.integers(1, 2000), st.sampled_from([10.0, 300.0]), st.integers(1, 300))
def test_a_storm_is_let_in_at_the_rate_and_nobody_tries_more_than_twice(count, rate, burst):
    came_in, tries = storm(Admission(rate, burst), range(count))
    assert max(tries.values()) <= 2
    times = sorted(came_in.values())
    assert times[-1] <= max(0, count - burst) / rate + 2 / rate
    for first in range(0, count, 50):  # never more than a burst and the rate
        within = [t for t in times[first:] if t <= times[first] + 1.0]
        assert len(within) <= burst + rate * (1 + EARLY_S) + 2


def test_a_node_that_comes_before_its_turn_keeps_it():
    admission = Admission(1.0, 1)
    assert admission.wait_s("a", 0.0) == 0
    turn = admission.wait_s("b", 0.0)
    assert admission.wait_s("b", 0.5) == pytest.approx(turn - 0.5)
    assert admission.wait_s("b", turn) == 0


def test_a_turn_that_is_not_taken_is_lost_in_the_end_and_forgotten():
    admission = Admission(10.0, 1)
    for node in range(100):
        admission.wait_s(str(node), 0.0)
    assert len(admission) == 99
    assert admission.wait_s("new", 20 + KEPT_S) == 0
    assert len(admission) == 0


def test_while_nobody_can_come_in_turns_are_spread_and_late_enough():
    admission = Admission(100.0, 10)
    waits = [admission.wait_s(str(n), 0.0, at_least_s=1.0) for n in range(500)]
    assert min(waits) >= 1.0
    assert max(waits) == pytest.approx(1.0 + 490 / 100, rel=0.1)
    assert admission.wait_s("0", waits[0]) == 0  # ready meanwhile


def test_a_burst_is_free_again_after_a_quiet_time():
    admission = Admission(100.0, 50)
    storm(admission, range(500))
    assert all(admission.wait_s(f"later-{n}", 60.0) == 0 for n in range(50))
    assert admission.wait_s("one more", 60.0) > 0


def test_dials_are_spread_over_the_time_that_the_rate_needs_for_all_beyond_the_burst():
    admission = Admission(300.0, 300)
    assert [admission.spread_s(count) for count in (0, 300, 600, 5100)] == [0.0, 0.0, 1.0, 16.0]


def test_turns_that_are_to_come_are_counted_and_lost_ones_are_not():
    admission = Admission(10.0, 1)
    for node in range(10):
        admission.wait_s(str(node), 0.0)
    assert admission.waiting_count(0.0) == 9
    assert admission.wait_s("1", 0.1) == 0
    assert admission.waiting_count(0.1) == 8
    assert admission.waiting_count(2 + KEPT_S) == 0


def test_a_node_that_joins_and_leaves_in_a_loop_takes_no_turn_of_another():
    admission = Admission(rate_per_s=100.0, burst_count=100)
    now, let_in = 0.0, 0
    for _ in range(6000):  # it tries a hundred times a second, for a minute
        now += 0.01
        let_in += admission.wait_s("looping", now) == 0.0
    assert let_in <= OWN_BURST_COUNT + 60 / OWN_APART_S + 1
    assert all(admission.wait_s(f"edge-{n}", now) == 0.0 for n in range(90))


def test_a_node_with_a_bad_link_may_join_as_often_as_it_breaks():
    admission = Admission(rate_per_s=100.0, burst_count=100)
    assert all(admission.wait_s("edge-1", 1.5 * n) == 0.0 for n in range(1000))
    assert all(admission.wait_s("edge-2", 2000.0 + 0.1 * n) == 0.0 for n in range(20))


def test_who_has_joined_is_forgotten_when_it_counts_no_more():
    admission = Admission(rate_per_s=1000.0, burst_count=10_000)
    for number in range(5000):
        admission.wait_s(f"edge-{number}", number / 1000)
    assert admission.wait_s("edge-0", 100.0) == 0.0
    assert len(admission._full_at) == 1
