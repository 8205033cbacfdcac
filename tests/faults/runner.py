"""One run: a workload, a fault, a seed; from them the verdict, and how to repeat it."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.checker import Verdict, check
from tests.faults.neighbour import Neighbour
from tests.faults.workload import Workload


@dataclass
class Outcome:
    """What one run came to."""

    fault: str
    seed: int
    injected: int
    verdict: Verdict
    convergence_s: list[float]
    points: set[str]
    history: Path

    def explain(self) -> str:
        """Return the problems and how to repeat the run."""
        problems = "\n  ".join(self.verdict.problems[:20])
        more = len(self.verdict.problems) - 20
        more_text = f"\n  and {more} more" if more > 0 else ""
        return (
            f"{self.fault} with seed {self.seed}: {len(self.verdict.problems)} problems\n"
            f"  {problems}{more_text}\n"
            f"  repeat: python -m tests.faults --only {self.fault} --seed {self.seed} --runs 1\n"
            f"  history: {self.history}"
        )


async def run_one(name: str, seed: int, folder: Path) -> Outcome:
    """Run the fault `name` once. Raises: CannotError: this machine cannot make it."""
    fault = FAULTS[name]
    rng = random.Random(f"{name}{seed}")
    world = fault.world(folder, seed)
    if fault.prepare is not None:
        fault.prepare(world)
    try:
        async with world:
            async with AsyncExitStack() as stack:
                if fault.neighbour:
                    await stack.enter_async_context(Neighbour(world))
                await stack.enter_async_context(Workload(world, pace_s=fault.pace_s))
                await asyncio.sleep(0.2 + rng.random() * 0.6)
                await fault.inject(world, rng)
            await world.converge()
            if fault.judge is not None:
                await fault.judge(world)
            if fault.resume_probe:
                await world.probe_resume()
            await world.check_bounds()
    except TimeoutError:
        if not (world.history.count("problem") or world.history.count("late")):
            raise
    verdict = check(world.history.events)
    return Outcome(
        name,
        seed,
        world.history.count("fault"),
        verdict,
        world.convergence_s,
        {said["point"] for said in world.history.events if "point" in said},
        world.history.path,
    )
