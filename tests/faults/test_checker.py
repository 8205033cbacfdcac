"""The checker must see what it is there for: a harness that finds nothing proves nothing."""

from __future__ import annotations

import pytest

from synccore.messages import Op
from tests.faults.bodies import body_of, short_hash
from tests.faults.checker import check

KEY = ("Device", "default", "lamp")
NODE = "edge-1"


def asked(n, op=Op.UPSERT):
    return {"e": "asked", "node": NODE, "key": KEY, "n": n, "op": int(op), "hash": "h", "database": "a"}  # fmt: skip


def acked(n):
    return {"e": "acked", "node": NODE, "n": n}


def arrived(n, sequence=0, op=Op.UPSERT, hashed="h"):
    return {"e": "sink", "node": NODE, "key": KEY, "n": n, "op": int(op), "sequence": sequence, "hash": hashed}  # fmt: skip


def wanted(n):
    return {"e": "put", "node": NODE, "key": KEY, "n": n}


def unwanted(n):
    return {"e": "drop", "node": NODE, "key": KEY, "n": n}


def told(n):
    return [*KEY, n, short_hash(body_of(KEY, n).encode())] if n else [*KEY, None, ""]


def seen(n):
    return {"e": "seen", "node": NODE, "objects": [told(n)]}


def started(*numbers):
    return {"e": "started", "node": NODE, "database": "a", "objects": [told(n) for n in numbers]}


def behaved(**more):
    neighbour = {"e": "neighbour", "when": "fault", "slowest_s": 0.3, "rounds": 9, "joins": 1}
    return [
        {"e": "converged", "took_s": 1.0},
        {"e": "resume", "changed": 3, "sent": 3},
        {"e": "usage", "who": "edge", "first": usage(10, 60), "last": usage(20, 90)},
        {"e": "neighbour", "when": "calm", "slowest_s": 0.02},
        neighbour | more,
        {"e": "ended", "who": "edge-1", "status": -9, "expected": True, "log": ""},
    ]


def usage(fds, mib):
    return {"fds": fds, "rss_bytes": mib << 20}


def kinds(*events):
    verdict = check(list(events))
    names = ("lost", "duplicated", "out_of_order", "other")
    return [name for name in names for _ in getattr(verdict, name)]


def test_a_clean_history_has_no_problems():
    up = [asked(1), acked(1), asked(2), acked(2), arrived(1), arrived(2), arrived(2)]
    down = [wanted(3), seen(3), wanted(4), unwanted(5), seen(0), wanted(6), started(6), seen(6)]
    assert kinds(*up, *down) == []
    assert check([*up, *down]).acknowledged == 2 + 3


def test_an_acknowledged_state_that_never_arrived_is_lost():
    assert kinds(asked(1), acked(1)) == ["lost"]
    assert kinds(asked(1), acked(1), asked(2), acked(2), arrived(1)) == ["lost"]
    assert kinds(asked(1)) == []


def test_every_log_row_counts_and_none_counts_twice():
    row = asked(1, Op.APPEND)
    assert kinds(row, acked(1)) == ["lost"]
    assert kinds(row, acked(1), arrived(1, 7, Op.APPEND), arrived(1, 7, Op.APPEND)) == []
    twice = [arrived(1, 7, Op.APPEND), arrived(1, 8, Op.APPEND)]
    assert kinds(row, acked(1), *twice) == ["duplicated"]
    other = asked(2, Op.APPEND)
    assert kinds(row, other, arrived(1, 7, Op.APPEND), arrived(2, 7, Op.APPEND)) == ["lost"]


def test_a_state_that_goes_back_at_the_cloud_is_out_of_order():
    assert kinds(asked(1), asked(2), arrived(2), arrived(1)) == ["out_of_order"]


def test_a_body_that_nobody_wrote_is_seen():
    assert kinds(asked(1), arrived(1, hashed="x")) == ["other"]
    assert kinds(arrived(9)) == ["other"]
    forged = {"e": "seen", "node": NODE, "objects": [[*KEY, 1, "x"]]}
    assert kinds(wanted(1), forged) == ["other"]


def test_a_record_that_goes_back_or_vanishes_at_the_edge_is_seen():
    assert kinds(wanted(1), wanted(2), seen(2), seen(1)) == ["out_of_order"]
    assert kinds(wanted(1), seen(1), seen(0)) == ["out_of_order"]
    assert kinds(wanted(1), wanted(2), seen(2), started(1)) == ["lost"]
    assert kinds(wanted(1), seen(1), started()) == ["lost"]


def test_a_ghost_of_a_deleted_record_is_out_of_order():
    ghost = [wanted(1), seen(1), unwanted(2), seen(0), seen(1)]
    assert kinds(*ghost) == ["out_of_order"]


def test_after_the_cloud_was_restored_its_past_is_wanted_once():
    restored = {"e": "rewound", "node": NODE, "objects": [[*KEY, 1]]}
    before = [wanted(1), seen(1), unwanted(2), wanted(3), seen(3)]
    assert kinds(*before, restored, seen(1), wanted(4), seen(4)) == []
    # Another object of the same name goes first, and the restored one may be gone already.
    assert (
        kinds(*before, restored, unwanted(4), seen(0), seen(1), seen(0), wanted(5), seen(5)) == []
    )
    assert kinds(*before, restored, seen(1), seen(3)) == ["out_of_order"]
    assert kinds(*before, restored, wanted(4), seen(4), seen(1)) == ["out_of_order"]
    assert kinds(*before, restored, seen(1), seen(0)) == ["out_of_order"]


def test_what_only_a_damaged_disk_held_is_excused_and_what_came_later_is_not():
    damaged = {"e": "media_loss", "node": NODE}
    assert kinds(asked(1), acked(1), damaged) == []
    assert kinds(damaged, asked(1), acked(1)) == ["lost"]


def test_good_conduct_is_no_problem():
    assert kinds(*behaved()) == []


BROKEN = {
    "I1": ([asked(1), acked(1)], "owed, the cloud has n=0"),
    "I2": (
        [asked(1, Op.APPEND), arrived(1, 7, Op.APPEND), arrived(1, 8, Op.APPEND)],
        "arrived as",
    ),
    "I3": ([wanted(1), wanted(2), seen(2), seen(1)], "n=1 after n=2"),
    "I4": ([{"e": "late", "what": "edge and cloud are equal", "after_s": 60.0}], "(I4)"),
    "I5": ([{"e": "resume", "changed": 3, "sent": 4}], "3 keys had changed, 4 were sent (I5)"),
    "I5-too-little": ([{"e": "resume", "changed": 3, "sent": 2}], "(I5)"),
    "I6": ([asked(1), arrived(1, hashed="x")], "nobody wrote that"),
    "I7": ([wanted(1), seen(1), started()], "n=1 vanished"),
    "I8-descriptors": (
        [{"e": "usage", "who": "edge", "first": usage(10, 60), "last": usage(51, 60)}],
        "edge: fds 10 became 51 (I8)",
    ),
    "I8-memory": (
        [{"e": "usage", "who": "cloud", "first": usage(10, 60), "last": usage(10, 157)}],
        "(I8)",
    ),
    "I9-slow": (behaved(slowest_s=5.1), "waited 5.10 s, in calm 0.02 s (I9)"),
    "I9-cut": (behaved(joins=2), "joined 2 times (I9)"),
    "I9-starved": (behaved(rounds=0), "not served at all (I9)"),
    "I10": (
        [{"e": "ended", "who": "cloud", "status": 1, "expected": False, "log": "why"}],
        "cloud ended by itself, status 1 (I10):\nwhy",
    ),
}


@pytest.mark.parametrize(("events", "words"), BROKEN.values(), ids=BROKEN)
def test_each_invariant_that_is_broken_is_seen(events, words):
    (problem,) = check(events).problems
    assert words in problem


def test_every_invariant_is_broken_once_above():
    assert {name.partition("-")[0] for name in BROKEN} == {f"I{n}" for n in range(1, 11)}
