"""When each probe is due and what its answers mean, and that no order of answers breaks the rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.machine.probing import Answer, PodProbes, ProbeKind
from edgecore.edged.runtime import ContainerPhase, ContainerState
from tests.fakes.pods import container, make_pod

NOW = 1000.0
ALWAYS = {"exec": {"command": ["true"]}}
SUCCESS, FAILURE, UNKNOWN = Answer.SUCCESS, Answer.FAILURE, Answer.UNKNOWN


def running(name="app", ident="c-1", started_s=NOW):
    return ContainerState(
        ident, name, 0, ContainerPhase.RUNNING, "busybox:1", "sha256:1", NOW, started_s
    )


def probed(adopted=None, state=None, **probes):
    """PodProbes of a pod with one running container, and its probes by kind."""
    pod, book = make_pod(containers=[container(**probes)]), PodProbes()
    book.observe(pod, [state or running()], adopted or {}, now_s=NOW, wall_s=NOW)
    return book, {kind: probe for (_, kind), probe in book.probes.items()}


def test_a_container_without_probes_is_healthy():
    book, _ = probed()
    assert book.health().unready == frozenset()


def test_the_first_probe_waits_for_its_initial_delay_counted_from_the_start():
    _, by_kind = probed(
        state=running(started_s=NOW - 4), livenessProbe={**ALWAYS, "initialDelaySeconds": 10}
    )
    assert by_kind[ProbeKind.LIVENESS].due_s == NOW + 6


def test_a_container_is_not_ready_before_its_first_success():
    book, by_kind = probed(readinessProbe=ALWAYS)
    assert book.health().unready == {"c-1"}
    assert book.take(by_kind[ProbeKind.READINESS], SUCCESS, NOW) == (True, None)
    assert book.health().unready == frozenset()


def test_readiness_is_lost_after_three_failures_and_comes_back():
    book, by_kind = probed(readinessProbe=ALWAYS)
    ready = by_kind[ProbeKind.READINESS]
    book.take(ready, SUCCESS, NOW)
    assert [book.take(ready, FAILURE, NOW)[0] for _ in range(3)] == [False, False, True]
    assert book.health().unready == {"c-1"}
    assert book.take(ready, SUCCESS, NOW)[0]


def test_thresholds_count_answers_in_a_row():
    book, by_kind = probed(readinessProbe={**ALWAYS, "successThreshold": 2, "failureThreshold": 2})
    ready = by_kind[ProbeKind.READINESS]
    answers = [SUCCESS, FAILURE, SUCCESS, SUCCESS, FAILURE, SUCCESS, FAILURE, FAILURE]
    turned = [book.take(ready, answer, NOW)[0] for answer in answers]
    assert turned == [False, False, False, True, False, False, False, True]


def test_a_run_that_could_not_be_made_counts_for_nothing():
    book, by_kind = probed(livenessProbe={**ALWAYS, "failureThreshold": 2})
    live = by_kind[ProbeKind.LIVENESS]
    for answer in (FAILURE, UNKNOWN):
        assert not book.take(live, answer, NOW)[0]
    assert book.take(live, FAILURE, NOW)[0]
    assert book.health().failed == {"c-1": "liveness"}


def test_startup_holds_back_the_others_and_hastens_readiness():
    book, by_kind = probed(
        startupProbe=ALWAYS,
        livenessProbe=ALWAYS,
        readinessProbe={**ALWAYS, "initialDelaySeconds": 60},
    )
    assert [book.may_run(by_kind[kind]) for kind in ProbeKind] == [True, False, False]
    assert book.health().unstarted == {"c-1"}
    turned, hastened = book.take(by_kind[ProbeKind.STARTUP], SUCCESS, NOW + 5)
    assert (turned, hastened) == (True, by_kind[ProbeKind.READINESS])
    assert hastened.due_s == NOW + 5
    assert [book.may_run(by_kind[kind]) for kind in ProbeKind] == [False, True, True]
    assert book.health().unstarted == frozenset()


def test_a_failed_container_is_not_asked_again():
    book, by_kind = probed(startupProbe={**ALWAYS, "failureThreshold": 1})
    book.take(by_kind[ProbeKind.STARTUP], FAILURE, NOW)
    assert book.health().failed == {"c-1": "startup"}
    assert not book.may_run(by_kind[ProbeKind.STARTUP])


def test_a_new_instance_starts_afresh():
    pod = make_pod(containers=[container(livenessProbe={**ALWAYS, "failureThreshold": 1})])
    book = PodProbes()
    book.observe(pod, [running()], {}, now_s=NOW, wall_s=NOW)
    (old,) = book.probes.values()
    book.take(old, FAILURE, NOW)
    made = book.observe(pod, [running(ident="c-2")], {}, now_s=NOW, wall_s=NOW)
    assert [p.container_id for p in made] == ["c-2"]
    assert book.health().failed == {}
    assert old.over


def test_an_adopted_container_stays_ready_until_its_first_answer_says_otherwise():
    book, by_kind = probed(
        {"c-1": (True, True)},
        startupProbe=ALWAYS,
        readinessProbe={**ALWAYS, "failureThreshold": 1},
    )
    assert book.health().unready == frozenset()
    assert not book.may_run(by_kind[ProbeKind.STARTUP])  # it has started, for good
    book.take(by_kind[ProbeKind.READINESS], FAILURE, NOW)
    assert book.health().unready == {"c-1"}


def test_init_containers_are_not_probed_but_sidecars_are():
    sidecar = container("side", restartPolicy="Always", startupProbe=ALWAYS)
    pod = make_pod(initContainers=[container("one"), sidecar])
    book = PodProbes()
    states = [running("one", "c-0"), running("side", "c-1"), running("app", "c-2")]
    made = book.observe(pod, states, {}, now_s=NOW, wall_s=NOW)
    assert [p.container_id for p in made] == ["c-1"]


@given(
    st.lists(st.tuples(st.sampled_from(ProbeKind), st.sampled_from(Answer)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_no_order_of_answers_breaks_the_rules(answers, successes, failures):
    rule = {**ALWAYS, "failureThreshold": failures}
    book, by_kind = probed(
        startupProbe=rule,
        livenessProbe=rule,
        readinessProbe={**rule, "successThreshold": successes},
    )
    failed = {}
    for number, (kind, answer) in enumerate(answers):
        if not book.may_run(by_kind[kind]):
            continue
        before = by_kind[kind].verdict
        turned, _ = book.take(by_kind[kind], answer, NOW + number)
        assert turned == (by_kind[kind].verdict is not before)
        assert by_kind[kind].due_s > NOW + number
        health = book.health()
        assert health.unstarted <= health.unready
        assert failed.items() <= health.failed.items()  # a failure is final for this instance
        failed = dict(health.failed)
        if answer is FAILURE and failures == 1:
            assert by_kind[kind].verdict is FAILURE
