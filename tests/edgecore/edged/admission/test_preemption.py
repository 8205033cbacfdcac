from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.admission.book import AdmissionBook
from edgecore.edged.admission.demands import CRITICAL_PRIORITY, Demands
from edgecore.edged.admission.preemption import preemptable, victims

CRITICAL = Demands("c", "agent", "kube-system", {"cpu": Decimal(1)}, priority=CRITICAL_PRIORITY)


def pod(uid, cpu, qos="Burstable", priority=0):
    return Demands(uid, uid, "default", {"cpu": Decimal(cpu)}, qos=qos, priority=priority)


def chosen(shortage, *others):
    found = victims(CRITICAL, {"cpu": Decimal(shortage)}, others)
    return None if found is None else [v.uid for v in found]


def test_the_fewest_pods_are_ended_and_none_bigger_than_needed():
    assert chosen("0.5", pod("a", "0.1"), pod("b", "0.6"), pod("c", "2")) == ["b"]


def test_a_guaranteed_pod_goes_only_if_the_others_do_not_do():
    guaranteed = pod("g", 2, "Guaranteed")
    assert chosen(1, guaranteed, pod("b", 1)) == ["b"]
    assert chosen(2, guaranteed, pod("b", 1)) == ["g"]


def test_critical_pods_of_equal_rank_stay():
    assert chosen(1, pod("a", 2, priority=CRITICAL_PRIORITY)) is None
    assert chosen(1) is None


def test_a_critical_pod_is_taken_in_the_place_of_others():
    ended = []
    book = AdmissionBook("edge-1", ended.append)
    book.know_resources({"cpu": Decimal(2)})
    for number in range(2):
        assert book.ask(pod(f"u-{number}", 1)) is None
    assert book.ask(pod("u-3", 1)).reason == "OutOfcpu"
    assert ended == []
    assert book.ask(CRITICAL) is None
    assert [v.uid for v in ended] == ["u-0"]
    assert book.ask(pod("u-4", 1)).reason == "OutOfcpu"
    book.leave("u-1")
    assert book.ask(pod("u-4", 1)) is None


lists = st.lists(
    st.tuples(
        st.integers(0, 3000),
        st.sampled_from(["Guaranteed", "Burstable", "BestEffort"]),
        st.sampled_from([0, 1000, CRITICAL_PRIORITY + 1]),
    ),
    max_size=8,
)


@given(lists, st.integers(1, 6000))
def test_victims_free_enough_and_are_all_less_important(rows, shortage):
    others = [pod(f"u-{n}", Decimal(m) / 1000, qos, prio) for n, (m, qos, prio) in enumerate(rows)]
    need = Decimal(shortage) / 1000
    allowed = [o for o in others if preemptable(CRITICAL, o)]
    found = victims(CRITICAL, {"cpu": need}, others)
    possible = sum((o.requests["cpu"] for o in allowed), Decimal(0)) >= need
    assert (found is not None) is possible
    if found is not None:
        assert sum(v.requests["cpu"] for v in found) >= need
        assert all(v in allowed for v in found)
        assert len({v.uid for v in found}) == len(found)
