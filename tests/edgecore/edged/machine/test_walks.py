"""Whatever happens to a pod's containers, in any order: what must never happen does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.machine.planning import StopContainer, plan
from edgecore.edged.machine.probing import Health
from edgecore.edged.machine.status import Surroundings, pod_status
from edgecore.edged.machine.view import observe
from edgecore.edged.runtime import ContainerPhase
from tests.edgecore.edged.machine.test_planning import EXITED, NOW, POLICIES, RUNNING, Book
from tests.fakes.pods import container, make_pod

NAMES = ("one", "side", "late", "app", "b", "debug")
AROUND = Surroundings(["192.0.2.7"], "containerd")
DELETION = {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": 5}
HAPPENINGS = st.one_of(
    st.tuples(st.just("exit"), st.sampled_from(NAMES), st.integers(0, 2)),
    st.tuples(st.just("fail a probe"), st.sampled_from(("side", "app", "b")), st.just(0)),
    st.tuples(st.just("start up"), st.sampled_from(("side", "late")), st.just(0)),
    st.tuples(st.just("lose the sandbox"), st.just(""), st.just(0)),
    st.tuples(st.just("lose everything"), st.just(""), st.just(0)),
    st.tuples(st.just("restart the agent"), st.just(""), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.integers(1, 700)),
    st.tuples(st.just("act"), st.just(""), st.just(0)),
)


class World:
    """One pod, its runtime by the book, and an agent that looks, acts and is restarted."""

    def __init__(self, policy):
        gate = {"exec": {"command": ["true"]}}
        sides = [
            container(name, restartPolicy="Always", startupProbe=gate) for name in ("side", "late")
        ]
        self.spec = {
            "containers": [container("app"), container("b")],
            "initContainers": [container("one"), *sides],
            "ephemeralContainers": [container("debug")],
            "restartPolicy": policy,
        }
        self.pod = make_pod(**self.spec)
        self.memory = PodMemory(namespace="default", name="web", start_s=NOW)
        self.book, self.now_s = Book([], NOW), NOW
        self.failed, self.started = set(), set()
        self.counts = {}

    def running(self):
        return {
            c.id: c
            for s in self.book.live.values()
            for c in s.containers
            if c.phase is ContainerPhase.RUNNING
        }

    def health(self):
        alive = self.running()
        waits = {i for i, c in alive.items() if c.name in ("side", "late")} - self.started
        failed = {i: "liveness" for i in self.failed if i in alive}
        return Health(frozenset(waits), frozenset(waits), failed)

    def look(self):
        view = observe(self.pod, list(self.book.live.values()), self.memory)
        health = self.health()
        step = plan(self.pod, view, self.memory, self.now_s, health)
        if step.outcome:
            self.memory.outcome = step.outcome
        around = replace(AROUND, holds=step.holds, health=health)
        self.memory.status = pod_status(self.pod, view, self.memory, around, self.now_s)
        self.check_status()
        self.check_stops(step, view, health)
        return step

    def act(self):
        step = self.look()
        self.book.now_s = self.now_s
        for action in step.actions:
            if isinstance(action, StopContainer) and action.restart:
                self.memory.of(action.name).restart = self.memory.of(action.name).attempt
            self.book.obey(action)
        return step

    def check_status(self):
        for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
            for status in self.memory.status[kind]:
                assert status["restartCount"] >= self.counts.get(status["name"], 0)
                self.counts[status["name"]] = status["restartCount"]
                assert not (status["ready"] and "waiting" in status["state"])
        assert self.counts["debug"] == 0, "an ephemeral container is never started again"

    def check_stops(self, step, view, health):
        if self.pod.is_deleting or self.memory.outcome or view.sandbox is None:
            return
        if not view.sandbox.ready:
            return
        here = {c.id for c in view.sandbox.containers}
        stopped = {a.id for a in step.actions if isinstance(a, StopContainer)} & here
        assert stopped <= set(health.failed), "a healthy container is never stopped"

    def happen(self, what, name, number):
        ids = {i for i, c in self.running().items() if c.name == name}
        if what == "exit":
            self.book._edit(
                lambda c: (
                    replace(c, phase=EXITED, exit_code=number, finished_s=self.now_s)
                    if c.name == name and c.phase is RUNNING
                    else c
                )
            )
        elif what == "fail a probe":
            self.failed |= ids
        elif what == "start up":
            self.started |= ids
        elif what == "lose the sandbox":
            for sid in self.book.live:
                self.book.StopSandbox(type("Stop", (), {"id": sid}))
        elif what == "lose everything":
            self.book.live.clear()
        elif what == "restart the agent":
            import msgspec

            self.memory = msgspec.json.decode(msgspec.json.encode(self.memory), type=PodMemory)
        elif what == "wait":
            self.now_s += number
        else:
            self.act()
        self.now_s += 1


@pytest.mark.timeout(60)
@given(POLICIES, st.lists(HAPPENINGS, max_size=80))
@settings(max_examples=150, deadline=None)
def test_restarts_only_count_up_healthy_containers_go_on_and_a_delete_ends_all(policy, happenings):
    world = World(policy)
    for happening in happenings:
        world.act()
        world.happen(*happening)
        world.look()
    world.pod = make_pod(metadata=DELETION, **world.spec)
    for _ in range(10):
        if not world.act().actions:
            break
        world.now_s += 1
    else:
        raise AssertionError("still ending after 10 steps")
    assert world.book.live == {}


@pytest.mark.timeout(60)
@given(st.lists(HAPPENINGS, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_pod_that_always_restarts_runs_again_after_anything(happenings):
    world = World("Always")
    for happening in happenings:
        world.act()
        world.happen(*happening)
    for _ in range(60):
        world.book.finish_init_containers()
        world.started |= set(world.running())
        step = world.act()
        if not step.actions and step.wake_s is None and not world.book.initializing():
            break
        world.now_s = max(world.now_s + 1, step.wake_s or 0)
    names = [c.name for c in world.running().values()]
    assert {"app", "b", "side", "late"} <= set(names)
    assert len(names) == len(set(names))
