"""What a fault is."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.world import World


class CannotError(Exception):
    """This machine cannot make the fault; the text says what is missing."""


@dataclass(frozen=True)
class Fault:
    """One entry of the catalogue.

    inject: makes the fault, some times, while the workload runs, and takes it away. judge: looks at the world
    after convergence. world: arguments of `World`. pace_s: mean pause of each writer.
    """

    name: str
    inject: Callable[[World, random.Random], Awaitable[None]]
    judge: Callable[[World], Awaitable[None]] | None = None
    prepare: Callable[[World], None] | None = None
    world: dict[str, Any] = field(default_factory=dict)
    pace_s: float = 0.01
    resume_probe: bool = True
