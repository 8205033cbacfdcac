"""Fuzz every decoder for an equal share of the time:  python -m tests.fuzz --seconds 60 [--keep] [TARGET...]

New inputs stay in build/fuzz/ between runs; `--keep` minimises them into the corpus, tests/fuzz/corpus/. A crash
leaves its input there too, as a test that fails until the decoder is mended. Exit status 1 if there was one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"
WORK = Path("build/fuzz")
# A corpus is to be read in a second by every test run, and to be looked at in a review.
KEPT_FILES, KEPT_BYTES = 12, 2048
MAX_INPUT_BYTES = 16 << 10
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
# What libFuzzer found is named by its hash; any other name was given by a person, and stays.
_HASHED = re.compile(r"[0-9a-f]{40}")


class Outcome(NamedTuple):
    """What one target's share of the time gave; starting, some seconds for each, is not in it."""

    target: str
    executions: int
    seconds: int
    crashes: list[Path]


def main() -> int:
    """Run the targets named, or all."""
    options = _options()
    names = options.targets or target_names()
    share_s = max(1, round(options.seconds / len(names)))
    print(f"fuzz: {len(names)} targets, {share_s} s each, corpus in {CORPUS}", flush=True)
    print(f"{'target':<16}{'executions':>12}{'per second':>12}{'crashes':>9}", flush=True)
    outcomes = [_report(fuzz(name, share_s)) for name in names]
    if options.keep:
        for name in names:
            keep(name)
    executions, crashes = (
        sum(o.executions for o in outcomes),
        [c for o in outcomes for c in o.crashes],
    )
    print(f"fuzz: {executions} executions, {len(crashes)} crashes")
    return 1 if crashes else 0


def target_names() -> list[str]:
    """Return the names of all targets; each has a folder in the corpus."""
    return sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())


def fuzz(name: str, seconds: int) -> Outcome:
    """Run one target; its crashing inputs are put into the corpus."""
    found, crashed = _fresh(WORK / name, keep_old=True), _fresh(WORK / f"{name}.crashes")
    log = _child(
        name,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={crashed}/",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        str(found),
        str(CORPUS / name),
    )
    executed = _EXECUTED.search(log)
    crashes = [_adopt(name, path) for path in sorted(crashed.iterdir())]
    if crashes or executed is None:
        print(log[-4000:], file=sys.stderr)
        crashes = crashes or [WORK / name]  # it ended without an input: the target itself is broken
    count = int(executed[1]) if executed else 0
    return Outcome(name, count, seconds, crashes)


def keep(name: str) -> None:
    """Minimise all inputs known of a target into its corpus, up to a limit."""
    merged = _fresh(WORK / f"{name}.merged")
    _child(
        name,
        "-merge=1",
        f"-max_len={KEPT_BYTES}",
        str(merged),
        str(CORPUS / name),
        str(WORK / name),
    )
    for old in CORPUS.joinpath(name).iterdir():
        if _HASHED.fullmatch(old.name):
            old.unlink()
    # From the smallest to the largest in even steps: the small ones alone would all be refused at once.
    paths = sorted(merged.iterdir(), key=lambda p: (p.stat().st_size, p.name))
    step = max(1, len(paths) / KEPT_FILES)
    for path in {paths[int(at * step)] for at in range(min(KEPT_FILES, len(paths)))}:
        shutil.copy(path, CORPUS / name / path.name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument(
        "--keep", action="store_true", help="minimise what was found into the corpus"
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(target_names()))
    options = parser.parse_args()
    for name in options.targets:
        if name not in target_names():
            parser.error(f"{name}: no such target; known: {', '.join(target_names())}")
    return options


def _child(name: str, *arguments: str) -> str:
    program = WORK.absolute() / f"{name}.sh"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.fuzz.child {name} "$0" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode("utf-8", "replace")


def _adopt(name: str, crash: Path) -> Path:
    path = CORPUS / name / crash.name
    shutil.copy(crash, path)
    return path


def _fresh(folder: Path, *, keep_old: bool = False) -> Path:
    if not keep_old:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(outcome: Outcome) -> Outcome:
    rate = outcome.executions / outcome.seconds
    print(
        f"{outcome.target:<16}{outcome.executions:>12}{rate:>12.0f}{len(outcome.crashes):>9}",
        flush=True,
    )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
