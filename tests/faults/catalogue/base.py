"""What a fault is."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.world import World


class CannotError(Exception):
    """This machine cannot make the fault; the text says what is missing."""


@dataclass(frozen=True)
class Fault:
    """One entry of the catalogue.

    inject: makes the fault, some times, while the workload runs, and takes it away. judge: looks at the world
    after convergence. world: the kind of world. pace_s: mean pause of each writer. neighbour: whether another node
    is watched meanwhile.
    """

    name: str
    inject: Callable[[Any, random.Random], Awaitable[None]]
    judge: Callable[[Any], Awaitable[None]] | None = None
    prepare: Callable[[World], None] | None = None
    world: type[World] = World
    pace_s: float = 0.01
    resume_probe: bool = True
    neighbour: bool = False
