"""Every row of the pod state machine, and that it converges from any state of the runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecore.edged.machine.memory import BackOff, ContainerMemory, PodMemory, Waiting
from edgecore.edged.machine.planning import (
    RemoveContainer,
    RemoveSandbox,
    RunSandbox,
    StartContainer,
    StopContainer,
    StopSandbox,
    plan,
)
from edgecore.edged.machine.probing import Health
from edgecore.edged.machine.view import observe
from edgecore.edged.runtime import ContainerPhase, ContainerState, PodIdentity, SandboxState
from tests.fakes.pods import container, make_pod

NOW = 1_000_000.0
RUNNING, EXITED, CREATED, UNKNOWN = (
    ContainerPhase.RUNNING,
    ContainerPhase.EXITED,
    ContainerPhase.CREATED,
    ContainerPhase.UNKNOWN,
)


def state(name="app", phase=RUNNING, attempt=0, **more):
    defaults = {"image": "busybox:1", "image_id": "sha256:1", "created_s": NOW - 100}
    if phase is EXITED:
        defaults |= {"started_s": NOW - 100, "finished_s": NOW - 50}
    ident = more.pop("id", f"{name}-{attempt}")
    return ContainerState(ident, name, attempt, phase, **{**defaults, **more})


def sandbox(*containers, attempt=0, ready=True):
    pod = PodIdentity("default", "web", "u-1")
    return SandboxState(f"s-{attempt}", pod, attempt, ready, NOW - 200, containers=containers)


def memory(**fields):
    return PodMemory(namespace="default", name="web", start_s=NOW - 200, **fields)


def step(pod, *sandboxes, note=None, now_s=NOW):
    note = note or memory()
    return plan(pod, observe(pod, sandboxes, note), note, now_s)


def started(result):
    return [(a.name, a.attempt) for a in result.actions if isinstance(a, StartContainer)]


def test_a_new_pod_gets_a_sandbox():
    assert step(make_pod()).actions == [RunSandbox(0)]


def test_a_ready_sandbox_gets_its_containers():
    assert started(step(make_pod(), sandbox())) == [("app", 0)]


def test_a_running_pod_needs_nothing():
    result = step(make_pod(), sandbox(state()))
    assert (result.actions, result.outcome, result.wake_s) == ([], "", None)


def test_a_dead_sandbox_is_replaced_by_its_next_attempt():
    dead = sandbox(state(phase=EXITED), ready=False)
    assert step(make_pod(), dead).actions == [
        StopSandbox("s-0"),
        RemoveSandbox("s-0"),
        RunSandbox(1),
    ]


def test_what_still_runs_in_a_dead_sandbox_is_stopped_first():
    result = step(make_pod(), sandbox(state(), ready=False))
    assert isinstance(result.actions[0], StopContainer)
    assert result.actions[-1] == RunSandbox(1)


def test_containers_of_a_replaced_sandbox_start_with_the_next_attempt():
    note = memory()
    step(make_pod(), sandbox(state(phase=EXITED), ready=False), note=note)
    assert started(step(make_pod(), sandbox(attempt=1), note=note)) == [("app", 1)]


def test_old_sandboxes_are_removed_once_a_newer_one_is_ready():
    result = step(make_pod(), sandbox(attempt=0, ready=False), sandbox(state(), attempt=1))
    assert result.actions == [StopSandbox("s-0"), RemoveSandbox("s-0")]


@pytest.mark.parametrize(
    ("policy", "code", "restarted"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy_decides_by_exit_code(policy, code, restarted):
    pod = make_pod(restartPolicy=policy)
    result = step(pod, sandbox(state(phase=EXITED, exit_code=code)))
    assert bool(started(result)) == restarted
    assert bool(result.outcome) == (not restarted)


def test_all_containers_done_well_is_succeeded():
    pod = make_pod(restartPolicy="OnFailure")
    assert step(pod, sandbox(state(phase=EXITED))).outcome == "Succeeded"


def test_one_failed_container_of_a_finished_pod_is_failed():
    pod = make_pod(containers=[container("a"), container("b")], restartPolicy="Never")
    both = sandbox(state("a", EXITED), state("b", EXITED, exit_code=3))
    assert step(pod, both).outcome == "Failed"


def test_a_pod_with_one_container_still_running_has_not_ended():
    pod = make_pod(containers=[container("a"), container("b")], restartPolicy="Never")
    result = step(pod, sandbox(state("a", EXITED), state("b")))
    assert (result.actions, result.outcome) == ([], "")


def test_a_pod_that_never_restarts_fails_with_its_sandbox():
    pod = make_pod(restartPolicy="Never")
    assert step(pod, sandbox(state(phase=EXITED, exit_code=137), ready=False)).outcome == "Failed"


def test_a_pod_that_never_restarts_succeeded_even_if_its_sandbox_died_later():
    pod = make_pod(restartPolicy="Never")
    assert step(pod, sandbox(state(phase=EXITED), ready=False)).outcome == "Succeeded"


def test_an_ended_pod_gives_its_sandbox_back_but_keeps_its_containers():
    result = step(make_pod(), sandbox(state(phase=EXITED)), note=memory(outcome="Succeeded"))
    assert result.actions == [StopSandbox("s-0")]


def test_an_ended_pod_is_not_started_again_when_the_runtime_forgot_it():
    assert step(make_pod(), note=memory(outcome="Succeeded")).actions == []


def test_init_containers_run_in_order():
    pod = make_pod(initContainers=[container("one"), container("two")])
    note = memory()
    assert started(step(pod, sandbox(), note=note)) == [("one", 0)]
    assert started(step(pod, sandbox(state("one")), note=note)) == []
    done = state("one", EXITED)
    assert started(step(pod, sandbox(done), note=note)) == [("two", 0)]
    assert started(step(pod, sandbox(done, state("two", EXITED)), note=note)) == [("app", 0)]


def test_a_failed_init_container_is_restarted():
    pod = make_pod(initContainers=[container("one")])
    assert started(step(pod, sandbox(state("one", EXITED, exit_code=1)))) == [("one", 1)]


def test_a_failed_init_container_fails_a_pod_that_never_restarts():
    pod = make_pod(initContainers=[container("one")], restartPolicy="Never")
    assert step(pod, sandbox(state("one", EXITED, exit_code=1))).outcome == "Failed"


def test_init_containers_run_again_in_a_new_sandbox():
    pod = make_pod(initContainers=[container("one")])
    note = memory()
    step(pod, sandbox(state("one", EXITED), state(phase=EXITED), ready=False), note=note)
    assert started(step(pod, sandbox(attempt=1), note=note)) == [("one", 1)]


def test_init_containers_are_over_once_an_app_container_exists():
    pod = make_pod(initContainers=[container("one")])
    assert step(pod, sandbox(state())).actions == []


def test_a_sidecar_runs_beside_the_app_and_is_restarted():
    pod = make_pod(initContainers=[container("side", restartPolicy="Always")])
    note = memory()
    assert started(step(pod, sandbox(), note=note)) == [("side", 0)]
    assert started(step(pod, sandbox(state("side")), note=note)) == [("app", 0)]
    both = sandbox(state("side", EXITED), state())
    assert started(step(pod, both, note=note)) == [("side", 1)]


def test_a_sidecar_is_stopped_when_the_pod_has_ended():
    side = container("side", restartPolicy="Always")
    pod = make_pod(initContainers=[side], restartPolicy="Never")
    running = sandbox(state("side"), state(phase=EXITED))
    assert step(pod, running).outcome == "Succeeded"
    actions = step(pod, running, note=memory(outcome="Succeeded")).actions
    assert [(type(a), a.name) for a in actions] == [(StopContainer, "side")]


def test_the_first_restart_is_immediate_and_the_second_waits_ten_seconds():
    pod = make_pod()
    first = step(pod, sandbox(state(phase=EXITED, finished_s=NOW)))
    (start,) = first.actions
    assert start == StartContainer("app", 1, BackOff(delay_s=10, updated_s=NOW))
    note = memory(containers={"app": ContainerMemory(attempt=1, back_off=start.back_off)})
    crashed = sandbox(state(phase=EXITED, attempt=1, finished_s=NOW + 1, exit_code=1))
    held = step(pod, crashed, note=note, now_s=NOW + 2)
    assert held.actions == []
    assert held.holds["app"].reason == "CrashLoopBackOff"
    assert held.holds["app"].message == (
        "back-off 10s restarting failed container=app pod=web_default(u-1)"
    )
    assert held.wake_s == NOW + 11
    assert started(step(pod, crashed, note=note, now_s=NOW + 11)) == [("app", 2)]


def test_the_back_off_doubles_to_five_minutes():
    delays, back_off = [], BackOff(delay_s=10, updated_s=NOW)
    for attempt in range(1, 8):
        note = memory(containers={"app": ContainerMemory(attempt=attempt, back_off=back_off)})
        at_s = back_off.updated_s + 500
        crashed = sandbox(state(phase=EXITED, attempt=attempt, finished_s=at_s))
        (start,) = step(make_pod(), crashed, note=note, now_s=at_s + 400).actions[:1]
        back_off = start.back_off
        delays.append(back_off.delay_s)
    assert delays == [20, 40, 80, 160, 300, 300, 300]


def test_the_back_off_starts_again_after_ten_good_minutes():
    back_off = BackOff(delay_s=300, updated_s=NOW - 1000)
    note = memory(containers={"app": ContainerMemory(attempt=5, back_off=back_off)})
    crashed = sandbox(state(phase=EXITED, attempt=5, finished_s=NOW))
    (start, *_) = step(make_pod(), crashed, note=note).actions
    assert start.back_off == BackOff(delay_s=10, updated_s=NOW)


def test_a_clock_that_was_set_back_does_not_stop_restarts():
    back_off = BackOff(delay_s=10, updated_s=NOW)
    note = memory(containers={"app": ContainerMemory(attempt=1, back_off=back_off)})
    crashed = sandbox(state(phase=EXITED, attempt=1, finished_s=NOW + 1))
    assert started(step(make_pod(), crashed, note=note, now_s=NOW - 86_400)) == [("app", 2)]


def test_a_refused_start_is_held_until_its_time():
    waiting = Waiting(
        reason="CreateContainerConfigError",
        message="m",
        since_s=NOW,
        retry_s=NOW + 10,
        delay_s=10,
    )
    note = memory(containers={"app": ContainerMemory(waiting=waiting)})
    held = step(make_pod(), sandbox(), note=note, now_s=NOW + 1)
    assert (held.actions, held.wake_s) == ([], NOW + 10)
    assert started(step(make_pod(), sandbox(), note=note, now_s=NOW + 10)) == [("app", 0)]


def test_a_failed_pull_reads_image_pull_back_off_after_a_moment():
    waiting = Waiting(
        reason="ErrImagePull",
        message="no such host",
        since_s=NOW,
        retry_s=NOW + 10,
        delay_s=10,
    )
    note = memory(containers={"app": ContainerMemory(waiting=waiting)})
    assert step(make_pod(), sandbox(), note=note).holds["app"].reason == "ErrImagePull"
    later = step(make_pod(), sandbox(), note=note, now_s=NOW + 3).holds["app"]
    assert later.reason == "ImagePullBackOff"
    assert later.message == 'Back-off pulling image "busybox:1": ErrImagePull: no such host'


def test_one_held_container_does_not_hold_the_others():
    pod = make_pod(containers=[container("a"), container("b")])
    waiting = Waiting(reason="ErrImagePull", since_s=NOW, retry_s=NOW + 10, delay_s=10)
    note = memory(containers={"a": ContainerMemory(waiting=waiting)})
    assert started(step(pod, sandbox(), note=note)) == [("b", 0)]


def test_a_container_that_was_created_and_not_started_is_made_again_with_the_same_attempt():
    result = step(make_pod(), sandbox(state(phase=CREATED, attempt=2)))
    assert result.actions[0] == RemoveContainer("app-2")
    assert started(result) == [("app", 2)]


def test_a_container_of_unknown_state_is_replaced():
    result = step(make_pod(), sandbox(state(phase=UNKNOWN)))
    assert result.actions[0] == RemoveContainer("app-0")
    assert started(result) == [("app", 1)]


def test_a_container_that_vanished_counts_as_a_restart():
    note = memory(containers={"app": ContainerMemory(attempt=3)})
    assert started(step(make_pod(), sandbox(), note=note)) == [("app", 4)]


def test_a_vanished_container_fails_a_pod_that_never_restarts():
    note = memory(containers={"app": ContainerMemory(attempt=0)})
    assert step(make_pod(restartPolicy="Never"), sandbox(), note=note).outcome == "Failed"


def test_a_changed_image_restarts_the_container():
    note = memory(containers={"app": ContainerMemory(attempt=0, image="busybox:0")})
    (stop,) = step(make_pod(), sandbox(state()), note=note).actions
    assert stop.message == "Container app definition changed, will be restarted"


def test_only_the_last_dead_container_is_kept():
    attempts = [state(phase=EXITED, attempt=n) for n in range(3)]
    result = step(make_pod(), sandbox(*attempts, state(attempt=3)))
    assert result.actions == [RemoveContainer("app-0"), RemoveContainer("app-1")]


def test_a_deleted_pod_is_stopped_with_the_grace_of_its_delete():
    pod = make_pod(
        metadata={
            "deletionTimestamp": "2026-11-23T08:00:00Z",
            "deletionGracePeriodSeconds": 5,
        }
    )
    stop = StopContainer("app-0", "app", 5, "Stopping container app")
    assert step(pod, sandbox(state())).actions == [stop]
    ended = sandbox(state(phase=EXITED))
    assert step(pod, ended).actions == [StopSandbox("s-0"), RemoveSandbox("s-0")]


def test_a_deleted_pod_that_never_started_needs_nothing():
    pod = make_pod(metadata={"deletionTimestamp": "2026-11-23T08:00:00Z"})
    assert step(pod).actions == []


def test_a_pod_past_its_deadline_fails():
    result = step(make_pod(activeDeadlineSeconds=100), sandbox(state()))
    assert (result.outcome, result.reason) == ("Failed", "DeadlineExceeded")


def test_a_pod_before_its_deadline_is_looked_at_then():
    result = step(make_pod(activeDeadlineSeconds=300), sandbox(state()))
    assert (result.actions, result.wake_s) == ([], NOW + 100)


def test_a_sidecar_with_a_startup_probe_holds_back_the_next():
    side = container("side", restartPolicy="Always")
    pod = make_pod(initContainers=[side, container("one")])
    note, up = memory(), sandbox(state("side"))
    waiting = Health(unstarted=frozenset({"side-0"}), unready=frozenset({"side-0"}))
    view = observe(pod, [up], note)
    assert plan(pod, view, note, NOW, waiting).actions == []
    assert plan(pod, view, note, NOW, Health(starting=frozenset({"side"}))).actions == []
    assert started(plan(pod, view, note, NOW)) == [("one", 0)]


def test_a_sidecar_that_died_is_restarted_while_a_later_init_container_runs():
    side = container("side", restartPolicy="Always")
    pod = make_pod(initContainers=[side, container("one")])
    result = step(pod, sandbox(state("side", EXITED, exit_code=1), state("one")))
    assert started(result) == [("side", 1)]


def test_sidecars_do_not_keep_a_pod_from_completing_and_stop_in_reverse_order():
    sides = [container(name, restartPolicy="Always") for name in ("first", "second")]
    pod = make_pod(initContainers=sides, restartPolicy="OnFailure")
    up = sandbox(state("first"), state("second"), state(phase=EXITED))
    note = memory()
    assert step(pod, up, note=note).outcome == "Succeeded"
    stops = step(pod, up, note=memory(outcome="Succeeded")).actions
    assert {s.name: s.after for s in stops} == {"first": ("second-0",), "second": ()}


def test_a_deleted_pod_stops_its_apps_before_its_sidecars():
    side = container("side", restartPolicy="Always")
    pod = make_pod(initContainers=[side], metadata={"deletionTimestamp": "2026-11-23T08:00:00Z"})
    stops = step(pod, sandbox(state("side"), state())).actions
    assert {s.name: s.after for s in stops} == {"side": ("app-0",), "app": ()}


def test_a_container_that_failed_liveness_is_stopped_with_the_grace_of_the_probe_and_restarted():
    probe = {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 4}
    pod = make_pod(containers=[container(livenessProbe=probe)], restartPolicy="OnFailure")
    note = memory()
    failed = Health(failed={"app-0": "liveness"})
    (stop,) = plan(pod, observe(pod, [sandbox(state())], note), note, NOW, failed).actions
    assert stop == StopContainer(
        "app-0", "app", 4, "Container app failed liveness probe, will be restarted", restart=True
    )
    note.of("app").restart = 0  # as whoever stops it notes
    ended = step(pod, sandbox(state(phase=EXITED, exit_code=0)), note=note)
    assert (started(ended), ended.outcome) == ([("app", 1)], "")


def test_a_failed_probe_ends_a_container_that_is_never_restarted():
    pod = make_pod(containers=[container(startupProbe={})], restartPolicy="Never")
    note = memory()
    failed = Health(failed={"app-0": "startup"})
    (stop,) = plan(pod, observe(pod, [sandbox(state())], note), note, NOW, failed).actions
    assert (stop.message, stop.restart) == ("Container app failed startup probe", False)


def test_a_changed_image_is_tried_at_once_whatever_the_old_one_waited_for():
    held = Waiting(
        reason="ErrImagePull", since_s=NOW, retry_s=NOW + 300, delay_s=300, image="nowhere:1"
    )
    back_off = BackOff(delay_s=300, updated_s=NOW)
    app = ContainerMemory(attempt=4, image="nowhere:1", waiting=held, back_off=back_off)
    crashed = sandbox(state(phase=EXITED, attempt=4, exit_code=1, finished_s=NOW))
    result = step(make_pod(), crashed, note=memory(containers={"app": app}), now_s=NOW + 1)
    assert result.actions == [StartContainer("app", 5, None)]


def test_a_changed_image_restarts_even_what_is_never_restarted():
    note = memory(containers={"app": ContainerMemory(attempt=0, image="busybox:0", restart=0)})
    pod = make_pod(restartPolicy="Never")
    result = step(pod, sandbox(state(phase=EXITED, exit_code=143)), note=note)
    assert (started(result), result.outcome) == ([("app", 1)], "")


def test_an_ephemeral_container_is_started_once_even_before_the_pod_is_initialized():
    pod = make_pod(initContainers=[container("one")], ephemeralContainers=[container("debug")])
    note = memory()
    assert started(step(pod, sandbox(state("one")), note=note)) == [("debug", 0)]
    ended = sandbox(state("one"), state("debug", EXITED, exit_code=1))
    assert started(step(pod, ended, note=note)) == []
    assert started(step(pod, sandbox(state("one"), attempt=1), note=note)) == []


def test_a_deadline_that_is_set_while_the_pod_runs_counts_from_its_start():
    note = memory()
    assert step(make_pod(), sandbox(state()), note=note).outcome == ""
    shortened = step(make_pod(activeDeadlineSeconds=150), sandbox(state()), note=note)
    assert (shortened.outcome, shortened.reason) == ("Failed", "DeadlineExceeded")


def test_an_evicted_pod_is_stopped_with_the_grace_of_its_eviction():
    note = memory(outcome="Failed", reason="Evicted", end_grace_s=0.0)
    (stop,) = step(make_pod(), sandbox(state()), note=note).actions
    assert stop.grace_s == 0


POLICIES = st.sampled_from(["Always", "OnFailure", "Never"])
CONTAINERS = st.builds(
    state,
    st.sampled_from(["one", "side", "app", "b"]),
    st.sampled_from(list(ContainerPhase)),
    st.integers(0, 4),
    exit_code=st.integers(0, 2),
    finished_s=st.floats(NOW - 2000, NOW + 2000),
)
SANDBOXES = st.lists(
    st.builds(
        lambda containers, attempt, ready: sandbox(
            *[replace(c, id=f"{attempt}-{i}") for i, c in enumerate(containers)],
            attempt=attempt,
            ready=ready,
        ),
        st.lists(CONTAINERS, max_size=5, unique_by=lambda c: (c.name, c.attempt)),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda s: s.attempt,
)


class Book:
    """A runtime by the book: every action has its full effect at once."""

    def __init__(self, sandboxes, now_s):
        self.live, self.now_s = {s.id: s for s in sandboxes}, now_s

    def obey(self, action):
        getattr(self, type(action).__name__)(action)

    def RunSandbox(self, action):  # noqa: N802
        assert f"s-{action.attempt}" not in self.live, "an attempt is never used twice"
        self.live[f"s-{action.attempt}"] = sandbox(attempt=action.attempt)

    def StopSandbox(self, action):  # noqa: N802
        box = self.live[action.id]
        containers = tuple(self._ended(c) if c.phase is RUNNING else c for c in box.containers)
        self.live[action.id] = replace(box, ready=False, containers=containers)

    def RemoveSandbox(self, action):  # noqa: N802
        del self.live[action.id]

    def StopContainer(self, action):  # noqa: N802
        self._edit(lambda c: self._ended(c) if c.id == action.id else c)

    def RemoveContainer(self, action):  # noqa: N802
        self._edit(lambda c: None if c.id == action.id else c)

    def StartContainer(self, action):  # noqa: N802
        newest = max(self.live.values(), key=lambda s: s.attempt)
        assert newest.ready, "nothing is started in a dead sandbox"
        names = {(c.name, c.attempt) for c in newest.containers}
        assert (action.name, action.attempt) not in names, "an attempt is never used twice"
        ident = f"{newest.id}-{action.name}-{action.attempt}-new"
        made = state(action.name, RUNNING, action.attempt, id=ident)
        self.live[newest.id] = replace(newest, containers=(*newest.containers, made))

    def initializing(self):
        return any(
            c.name == "one" and c.phase is RUNNING for s in self.live.values() for c in s.containers
        )

    def finish_init_containers(self):
        done = {"phase": EXITED, "exit_code": 0, "finished_s": self.now_s}
        self._edit(lambda c: replace(c, **done) if c.name == "one" and c.phase is RUNNING else c)

    def _ended(self, container):
        return replace(container, phase=EXITED, exit_code=143, finished_s=self.now_s)

    def _edit(self, change):
        for sid, box in self.live.items():
            kept = tuple(c for c in map(change, box.containers) if c is not None)
            self.live[sid] = replace(box, containers=kept)


@pytest.mark.timeout(60)
@given(SANDBOXES, POLICIES, st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_machine_converges_from_any_state_of_the_runtime(boxes, policy, deleting, with_init):
    metadata = {"deletionTimestamp": "2026-11-23T08:00:00Z"} if deleting else {}
    inits = [container("one"), container("side", restartPolicy="Always")] if with_init else []
    pod = make_pod(
        containers=[container("app"), container("b")],
        initContainers=inits,
        restartPolicy=policy,
        metadata=metadata,
    )
    note, now_s = memory(), NOW
    for _ in range(40):
        result = plan(pod, observe(pod, boxes, note), note, now_s)
        if result.outcome:
            note.outcome = result.outcome
            continue
        book = Book(boxes, now_s)
        if not result.actions and not result.wake_s and not book.initializing():
            break
        for action in result.actions:
            book.obey(action)
        book.finish_init_containers()
        boxes = list(book.live.values())
        now_s = max(now_s + 1, result.wake_s or 0)
    else:
        raise AssertionError("still acting after 40 steps")
    running = {c.name for box in boxes for c in box.containers if c.phase is RUNNING}
    if deleting:
        assert boxes == []
    elif note.outcome:
        assert running == set()
    else:
        wanted = {"app", "b"} | ({"side"} if with_init else set())
        ended = {n for n in ("app", "b") if n not in running}
        assert wanted - ended <= running
        assert policy != "Always" or not ended
