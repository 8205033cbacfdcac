"""Judges a history: what was acknowledged and is lost, applied twice, or went back, and how all behaved (I1 to I10)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from synccore.messages import Op
from tests.faults.bodies import Key, body_of, short_hash
from tests.faults.history import Json


@dataclass
class Verdict:
    """Figures of one run, and a line for every problem."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Everything that must not be, each with the word it counts under."""
        kinds = ("lost", "duplicated", "out_of_order", "other")
        return [f"{kind}: {text}" for kind in kinds for text in getattr(self, kind)]


def check(events: list[Json]) -> Verdict:
    """Return the verdict on a history."""
    verdict = Verdict()
    _Upstream(verdict).check(events)
    _Downstream(verdict).check(events)
    _conduct(events, verdict)
    return verdict


# I8: what a run may add to a process. Both are far above what any run adds and far below a leak under load.
MAX_GROWTH = {"fds": 40, "rss_bytes": 96 << 20}
# I9: how much slower than in calm a neighbour may be served. The floor is what a busy machine does to anybody.
MAX_NEIGHBOUR_FACTOR, NEIGHBOUR_FLOOR_S = 20.0, 5.0


def _conduct(events: list[Json], verdict: Verdict) -> None:
    """Judge what needs no model: I4, I5, I8, I9, I10, and what the harness itself calls a problem."""
    calm_s = 0.0
    for said in events:
        match said["e"]:
            case "problem":
                verdict.other.append(said["text"])
            case "late":
                verdict.other.append(f"not within {said['after_s']:.0f} s: {said['what']} (I4)")
            case "resume" if said["sent"] != said["changed"]:
                verdict.other.append(
                    f"resume: {said['changed']} keys had changed, {said['sent']} were sent (I5)"
                )
            case "usage":
                _judge_usage(said, verdict)
            case "neighbour" if said["when"] == "calm":
                calm_s = said["slowest_s"]
            case "neighbour":
                _judge_neighbour(calm_s, said, verdict)
            case "ended" if not said["expected"]:
                text = f"{said['who']} ended by itself, status {said['status']} (I10)"
                verdict.other.append(f"{text}:\n{said['log']}")


def _judge_usage(said: Json, verdict: Verdict) -> None:
    for what, limit in MAX_GROWTH.items():
        before, after = said["first"][what], said["last"][what]
        if after - before > limit:
            verdict.other.append(f"{said['who']}: {what} {before} became {after} (I8)")


def _judge_neighbour(calm_s: float, said: Json, verdict: Verdict) -> None:
    if said["joins"] != 1:
        verdict.other.append(f"the neighbour joined {said['joins']} times (I9)")
    if not said["rounds"]:
        verdict.other.append("the neighbour was not served at all (I9)")
    if said["slowest_s"] > max(NEIGHBOUR_FLOOR_S, calm_s * MAX_NEIGHBOUR_FACTOR):
        verdict.other.append(
            f"the neighbour waited {said['slowest_s']:.2f} s, in calm {calm_s:.2f} s (I9)"
        )


class _Upstream:
    """Rows that the edge's store acknowledged, and what reached the cloud's sink."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._asked: dict[tuple[str, int], Json] = {}
        self._acked: dict[tuple[str, int], Json] = {}
        self._newest: dict[tuple[str, Key], int] = {}
        self._sequences: dict[tuple[str, int], tuple[str, int]] = {}
        self._rows_at: dict[tuple[str, int], int] = {}

    def check(self, events: list[Json]) -> None:
        for said in events:
            if said["e"] == "asked":
                self._asked[said["node"], said["n"]] = said
        for said in events:
            self._note_promise(said)
        for said in events:
            if said["e"] == "sink":
                self._arrived(said)
            elif said["e"] == "rewound":
                self._newest.clear()
        self._judge()

    def _note_promise(self, said: Json) -> None:
        if said["e"] == "acked":
            row = self._asked[said["node"], said["n"]]
            self._acked[said["node"], said["n"]] = row
            self._verdict.acknowledged += 1
        elif said["e"] == "rewound":
            self._acked.clear()  # the cloud's own database is an older one
        elif said["e"] == "media_loss":
            # What only a damaged or replaced disk held is gone; what comes afterwards is not.
            for place in [p for p in self._acked if p[0] == said["node"]]:
                del self._acked[place]

    def _arrived(self, said: Json) -> None:
        node, key, n = said["node"], tuple(said["key"]), said["n"]
        row = self._asked.get((node, n))
        if row is None or tuple(row["key"]) != key or row["hash"] != said["hash"]:
            self._verdict.other.append(f"{key} n={n} arrived, and nobody wrote that")
            return
        if said["op"] == Op.APPEND:
            self._entry_arrived(node, n, (row["database"], said["sequence"]))
            return
        before = self._newest.get((node, key), 0)
        if n < before:
            self._verdict.out_of_order.append(f"upstream {key}: n={n} written after n={before}")
        self._newest[node, key] = n

    def _entry_arrived(self, node: str, n: int, identity: tuple[str, int]) -> None:
        held = self._sequences.setdefault((node, n), identity)
        if held != identity:
            self._verdict.duplicated.append(f"log row n={n} arrived as {held} and {identity}")
        if (other := self._rows_at.setdefault(identity, n)) != n:
            self._verdict.lost.append(f"log rows n={other} and n={n} are both {identity}")

    def _judge(self) -> None:
        owed: dict[tuple[str, Key], int] = defaultdict(int)
        for (node, n), row in self._acked.items():
            if row["op"] == Op.APPEND:
                if (node, n) not in self._sequences:
                    self._verdict.lost.append(f"log row n={n} of {node} never arrived")
            else:
                place = node, tuple(row["key"])
                owed[place] = max(owed[place], n)
        for (node, key), n in owed.items():
            if (arrived := self._newest.get((node, key), 0)) < n:
                self._verdict.lost.append(f"{key} of {node}: n={n} owed, the cloud has n={arrived}")


class _Downstream:
    """What the cloud wanted, and what the edge's store showed, across restarts.

    Of each key there is a line of states, in the order in which they were wanted; a deletion is None. What the edge
    shows must lie on it, never before what it showed last. Of several places that would do, the first is taken: no
    other leaves more open.
    """

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._wanted: defaultdict[tuple[str, Key], list[int | None]] = defaultdict(list)
        self._at: dict[tuple[str, Key], int] = {}

    def check(self, events: list[Json]) -> None:
        for said in events:
            if said["e"] in ("put", "drop"):
                place = said["node"], tuple(said["key"])
                self._wanted[place].append(said["n"] if said["e"] == "put" else None)
            elif said["e"] == "seen":
                self._verdict.acknowledged += len(said["objects"])
                for *key, n, hashed in said["objects"]:
                    self._saw(said["node"], tuple(key), n, hashed, "out_of_order")
            elif said["e"] == "started":
                self._started(said["node"], said["objects"])
            elif said["e"] == "media_loss":
                for place in [p for p in self._at if p[0] == said["node"]]:
                    del self._at[place]
            elif said["e"] == "rewound":
                self._rewound(said["node"], {tuple(key): n for *key, n in said["objects"]})

    def _rewound(self, node: str, restored: dict[Key, int]) -> None:
        """The cloud's own database was restored: what it held is what is wanted next.

        What was there may have been another object of the name, with a uid of its own, which goes first.
        """
        known = [key for who, key in self._wanted if who == node]
        for key in {*known, *restored}:
            line = self._wanted[node, key]
            line.append(None)
            if key in restored:
                line.append(restored[key])

    def _started(self, node: str, objects: list[list]) -> None:
        """What is on the disk after a restart may be newer than what was told, never older (I1, I7)."""
        held = {tuple(key): (n, hashed) for *key, n, hashed in objects}
        known = [key for who, key in self._at if who == node]
        for key in {*known, *held}:
            n, hashed = held.get(key, (None, ""))
            self._saw(node, key, n, hashed, "lost")

    def _saw(self, node: str, key: Key, n: int | None, hashed: str, kind: str) -> None:
        place = node, key
        wanted, at = self._wanted[place], self._at.get(place)
        if n is not None and (n not in wanted or hashed != short_hash(body_of(key, n).encode())):
            self._verdict.other.append(f"downstream {key}: n={n} is not what the cloud wanted")
            return
        start = 0 if at is None else at
        if n in wanted[start:]:
            self._at[place] = wanted.index(n, start)
        elif at is not None:
            what = f"n={wanted[at]} vanished" if n is None else f"n={n} after n={wanted[at]}"
            getattr(self._verdict, kind).append(f"downstream {key}: {what}")
            if n is not None:
                self._at[place] = wanted.index(n)
