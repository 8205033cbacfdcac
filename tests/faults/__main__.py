"""`make faults`: runs (fault, seed) after (fault, seed) for a time, and ends with one line of figures."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.catalogue.base import CannotError
from tests.faults.catalogue.processes import CLOUD_POINTS, EDGE_POINTS
from tests.faults.checker import check
from tests.faults.history import read_history
from tests.faults.runner import Outcome, run_one


def main() -> int:
    """Run; return 1 if anything was lost, applied twice, out of order, or otherwise wrong."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=0, help="end after so many runs")
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="repeatable")
    parser.add_argument("--keep", type=Path, help="folder for the runs; else one that goes")
    parser.add_argument("--check", type=Path, help="only judge this history.jsonl again")
    arguments = parser.parse_args()
    if arguments.check:
        problems = check(read_history(arguments.check)).problems
        _say("\n".join(problems) or "nothing wrong")
        return bool(problems)
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="armadillo-faults-"))
    outcomes: list[Outcome] = []
    skipped: dict[str, str] = {}
    deadline_s = time.monotonic() + arguments.seconds
    names = arguments.only or list(FAULTS)
    for number, (seed, name) in enumerate(_plan(names, arguments.seed)):
        over = arguments.runs and number >= arguments.runs
        if over or time.monotonic() > deadline_s or len(skipped) == len(names):
            break
        if name in skipped:
            continue
        place = folder / f"{name}-{seed}"
        began_s = time.monotonic()
        try:
            outcome = await run_one(name, seed, place)
        except CannotError as exc:
            skipped[name] = str(exc)
            _say(f"{name:10} skipped: {exc}")
            continue
        outcomes.append(outcome)
        _report(outcome, time.monotonic() - began_s)
        if not outcome.verdict.problems and not arguments.keep:
            shutil.rmtree(place)
    return _summary(outcomes)


def _plan(names: list[str], seed: int):
    return ((number, name) for number in itertools.count(seed) for name in names)


def _report(outcome: Outcome, took_s: float) -> None:
    verdict = outcome.verdict
    converged = max(outcome.convergence_s, default=0.0)
    word = "ok" if not verdict.problems else "FAILED"
    _say(
        f"{outcome.fault:10} seed {outcome.seed:<5} {word:6} faults {outcome.injected:<3} "
        f"acknowledged {verdict.acknowledged:<6} converged in {converged:5.2f} s  "
        f"run {took_s:5.1f} s"
    )
    if verdict.problems:
        _say(outcome.explain())


def _summary(outcomes: list[Outcome]) -> int:
    injected = sum(o.injected for o in outcomes)
    survived = sum(o.injected for o in outcomes if not o.verdict.problems)
    verdicts = [o.verdict for o in outcomes]
    acknowledged = sum(v.acknowledged for v in verdicts)
    lost, duplicated = sum(len(v.lost) for v in verdicts), sum(len(v.duplicated) for v in verdicts)
    out_of_order = sum(len(v.out_of_order) for v in verdicts)
    converged = sorted(s for o in outcomes for s in o.convergence_s)
    if converged:
        p50, p99 = converged[len(converged) // 2], converged[int(len(converged) * 0.99)]
        _say(f"convergence after the fault: p50 {p50:.2f} s, p99 {p99:.2f} s, runs {len(outcomes)}")
    if points := set().union(*(o.points for o in outcomes)):
        count = len(EDGE_POINTS) + len(CLOUD_POINTS)
        _say(f"crash points covered {len(points)} / {count}")
    if not lost and acknowledged:
        _say(f"loss below {3 / acknowledged:.2g} of what was acknowledged, with 95 % confidence")
    _say(
        f"faults injected {injected} / survived {survived}, acknowledged {acknowledged} / "
        f"lost {lost} / duplicated in effect {duplicated} / out of order {out_of_order}"
    )
    failed = any(v.problems for v in verdicts) or survived != injected
    return int(failed or not outcomes)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
