"""Named places where tests make a process die or wait. Inert unless ARMADILLO_FAILPOINTS is set at its start.

A plan is `name=action@hit` joined with `;`: `kill` (SIGKILL to this process) or `sleep:MILLISECONDS`,
at the given hit of that name, counted from 1; without `@hit` at each.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass

from corekit.errors import ConfigError

logger = logging.getLogger(__name__)

VARIABLE = "ARMADILLO_FAILPOINTS"


@dataclass(frozen=True, slots=True)
class _Step:
    action: str
    argument: int  # of sleep: milliseconds
    hit: int  # 0: every one


def parse_plan(text: str) -> dict[str, _Step]:
    """Return what happens at which name. Raises: ConfigError: naming the part that means nothing."""
    plan: dict[str, _Step] = {}
    for part in filter(None, text.split(";")):
        name, _, rest = part.partition("=")
        verb, _, hit = rest.partition("@")
        action, _, argument = verb.partition(":")
        numbers = [number for number in (hit, argument) if number]
        if action not in ("kill", "sleep") or not all(map(str.isdecimal, numbers)):
            problem = f"{part!r} is not NAME=kill|sleep:MS[@HIT]"
            raise ConfigError("environment", VARIABLE, problem)
        plan[name] = _Step(action, int(argument or 0), int(hit or 0))
    return plan


_plan = parse_plan(os.environ.get(VARIABLE, ""))
_hits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Do what the plan says for `name`; without a plan this is one test of a global."""
    if _plan:
        _hit(name)


def _hit(name: str) -> None:
    step = _plan.get(name)
    if step is None:
        return
    _hits[name] += 1
    if step.hit not in (0, _hits[name]):
        return
    logger.warning("failpoint %s: %s at hit %d", name, step.action, _hits[name])
    if step.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(step.argument / 1000)  # the whole process waits: that is the fault
