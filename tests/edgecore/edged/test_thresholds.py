from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ConfigError
from edgecore.edged.thresholds import (
    CONDITIONS,
    Observation,
    PressureState,
    due,
    met,
    observe,
    parse_hard_thresholds,
    parse_thresholds,
)
from edgecore.settings import PodSettings

MIB = 1 << 20


def parsed(grace=None, **written):
    names = {name.replace("_", "."): text for name, text in written.items()}
    return parse_thresholds("pods.eviction_hard", names, grace)


def test_an_amount_and_a_part_are_both_thresholds():
    memory, disk = parsed(memory_available="100Mi", nodefs_available="10%")
    assert memory.quantity(1 << 30) == 100 * MIB
    assert disk.quantity(1000) == 100
    calm = {"memory.available": Observation(100 * MIB, 1 << 30)}
    assert met([memory, disk], calm) == []
    short = {
        "nodefs.available": Observation(99, 1000),
        "memory.available": Observation(100 * MIB - 1, 1 << 30),
    }
    assert met([disk, memory], short) == [memory, disk]  # memory is the more urgent


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"memory.available": "100Mi"}, [100 * MIB]),
        ({"memory.available": "10%"}, [20 * MIB]),  # of what pods may use, not of the node's memory
        ({"memory.available": "100Mi", "allocatableMemory.available": "64Mi"}, [64 * MIB]),
        ({"memory.available": "100Mi", "allocatableMemory.available": "0"}, []),
        ({"allocatableMemory.available": "64Mi"}, [64 * MIB]),
        ({"nodefs.available": "10%"}, []),
    ],
)
def test_the_memory_of_all_pods_has_the_nodes_threshold_or_its_own(written, expected):
    found = parse_hard_thresholds("pods.eviction_hard", written)
    own = [t for t in found if t.signal == "allocatableMemory.available"]
    assert [t.quantity(200 * MIB) for t in own] == expected
    assert [t for t in found if t not in own] == parse_thresholds(
        "k", {k: v for k, v in written.items() if k != "allocatableMemory.available"}
    )


def test_too_little_memory_left_for_all_pods_is_pressure_though_the_node_has_enough():
    hard = parse_hard_thresholds("pods.eviction_hard", {"memory.available": "100Mi"})
    seen = {
        "memory.available": Observation(4096 * MIB, 8192 * MIB),
        "allocatableMemory.available": Observation(100 * MIB - 1, 512 * MIB),
    }
    (short,) = met(hard, seen)
    assert short.signal == "allocatableMemory.available"
    assert observe(PressureState.calm(), [short], 0.0).conditions(1.0, 300.0) == ("MemoryPressure",)
    # Where pods have no limit together, nobody observes the signal.
    del seen["allocatableMemory.available"]
    assert met(hard, seen) == []


def test_zero_switches_a_threshold_off():
    assert parsed(memory_available="0", nodefs_available="0%") == []


@pytest.mark.parametrize(
    ("signal", "text", "problem"),
    [
        ("memory.free", "1", "pods.eviction_hard.memory.free: is not one of memory.available"),
        ("memory.available", "much", "'much' is not a quantity"),
        ("memory.available", "101%", "101% is not within 0% and 100%"),
        ("memory.available", "-1", "-1 is less than 0"),
        ("memory.available", "x%", "'x%' is not a percentage"),
    ],
)
def test_a_bad_threshold_names_itself(signal, text, problem):
    with pytest.raises(ConfigError, match=problem.replace("'", ".")):
        parse_thresholds("pods.eviction_hard", {signal: text})


def test_a_soft_threshold_needs_its_grace_and_waits_for_it():
    with pytest.raises(ConfigError, match="has no grace of more than 0 s"):
        parsed({}, memory_available="1Gi")
    (soft,) = parsed({"memory.available": 90.0}, memory_available="1Gi")
    state = observe(PressureState.calm(), [soft], 1000.0)
    assert state.conditions(1000.0, 300.0) == ("MemoryPressure",)
    assert due(state, 1089.0) == []
    state = observe(state, [soft], 1090.0)
    assert due(state, 1090.0) == [soft]
    state = observe(state, [], 1091.0)  # over: the next time it counts anew
    assert due(observe(state, [soft], 1092.0), 1093.0) == []


def test_a_condition_holds_through_its_transition_period():
    (hard,) = parsed(nodefs_available="10%")
    state = observe(PressureState.calm(), [hard], 1000.0)
    state = observe(state, [], 1010.0)
    assert state.conditions(1299.0, 300.0) == ("DiskPressure",)
    assert state.conditions(1300.0, 300.0) == ()


def test_kubelets_defaults_are_the_defaults():
    found = parse_thresholds("pods.eviction_hard", PodSettings().eviction_hard)
    assert {t.signal: (t.amount, t.fraction) for t in found} == {
        "memory.available": (Decimal(100 * MIB), None),
        "nodefs.available": (0, Decimal("0.1")),
        "nodefs.inodesFree": (0, Decimal("0.05")),
        "imagefs.available": (0, Decimal("0.15")),
        "imagefs.inodesFree": (0, Decimal("0.05")),
    }


steps = st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=20)


@given(steps)
def test_a_condition_holds_exactly_while_it_was_seen_lately(moves):
    (hard,) = parsed(memory_available="1Gi")
    state, now_s, last_s = PressureState.calm(), 0.0, None
    for step_s, short in moves:
        now_s += step_s
        last_s = now_s if short else last_s
        state = observe(state, [hard] if short else [], now_s)
        wanted = last_s is not None and now_s - last_s < 300
        assert state.conditions(now_s, 300.0) == (("MemoryPressure",) if wanted else ())


@given(st.text(max_size=12), st.sampled_from(sorted(CONDITIONS)))
def test_no_text_is_worse_than_an_error_in_words(text, signal):
    with suppress(ConfigError):
        for threshold in parse_thresholds("k", {signal: text}):
            assert threshold.quantity(1000) > 0 or threshold.fraction
