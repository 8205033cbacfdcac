"""Keeps child processes running: in order up, restarted with back-off, in reverse order down."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from armadillo.up.console import Console, tail
from armadillo.up.processes import write_pid_file
from corekit.backoff import Backoff

# All of it, and containerd after it, must stop within 10 s of Ctrl-C; each child gets its share of what is left.
STOP_TOTAL_S = 7.0
STOP_EACH_S = 4.0
# A child that ran this long had started well: its next failure is a new one.
HEALTHY_S = 30.0
# Exit status of a wrong setting: trying again cannot help.
EXIT_USAGE = 2
MAX_LOG_BYTES = 16 << 20


@dataclass(frozen=True)
class Program:
    """One child process. `stage`: children of one stage stop together, higher stages first."""

    name: str
    argv: tuple[str, ...]
    stage: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One program and its current process."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program, self.log = program, log
        self.process: asyncio.subprocess.Process | None = None
        self.gave_up = False
        self.restarts = 0
        self.last_words = ""
        self.stopping = asyncio.Event()
        self.changing = (
            asyncio.Lock()
        )  # starting and ending must not overlap: a late start would be an orphan

    @property
    def alive(self) -> bool:
        """Whether its process runs now."""
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """Children by name. Leaving the context stops them all, in reverse order of stages."""

    def __init__(self, *, logs: Path, run: Path, console: Console) -> None:
        self.children: dict[str, Child] = {}
        self._logs, self._run, self._console = logs, run, console
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        for folder in (self._logs, self._run):
            folder.mkdir(parents=True, exist_ok=True)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.stop()
        finally:
            await self._tasks.__aexit__(None, None, None)

    async def start(self, program: Program) -> Child:
        """Start `program` and watch it; return at once."""
        child = Child(program, self._logs / f"{program.name}.log")
        self.children[program.name] = child
        _rotate(child.log)
        await self._spawn(child)
        self._tasks.create_task(self._watch(child), name=program.name)
        return child

    async def stop(self) -> None:
        """Stop all children, stage by stage, within STOP_TOTAL_S; who does not stop is killed and named."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_TOTAL_S
        for child in self.children.values():
            child.stopping.set()
        for stage in sorted({c.program.stage for c in self.children.values()}, reverse=True):
            members = [c for c in self.children.values() if c.program.stage == stage]
            patience_s = max(0.2, min(STOP_EACH_S, deadline - loop.time()))
            await asyncio.gather(*(self._end(child, patience_s) for child in members))

    async def _spawn(self, child: Child) -> None:
        async with child.changing:
            if not child.stopping.is_set():
                await self._spawn_locked(child)

    async def _spawn_locked(self, child: Child) -> None:
        with child.log.open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                *child.program.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **child.program.env},
                # Ctrl-C at the terminal must reach this process only: it stops the others in order.
                start_new_session=True,
            )
        write_pid_file(self._run / f"{child.program.name}.pid", child.process.pid)

    async def _watch(self, child: Child) -> None:
        backoff = Backoff(0.5, 30.0)
        loop = asyncio.get_running_loop()
        while not child.stopping.is_set():
            assert child.process is not None
            begun_s = loop.time()
            status = await child.process.wait()
            if child.stopping.is_set():
                return
            if loop.time() - begun_s > HEALTHY_S:
                backoff.reset()
            await self._after_death(child, status, backoff)
            if child.gave_up:
                return

    async def _after_death(self, child: Child, status: int, backoff: Backoff) -> None:
        name, words = child.program.name, tail(child.log)
        # Said once: a child that dies of the same thing again and again must not fill the screen.
        last = f"; its last lines:\n{words}" if words != child.last_words else ""
        child.last_words = words
        cause = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if status == EXIT_USAGE:
            child.gave_up = True
            self._console.step(f"{name} {cause} and is not started again{last}")
            return
        delay_s = backoff.next_delay_s()
        self._console.step(f"{name} {cause}, starting it again in {delay_s:.1f} s{last}")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.stopping.wait(), delay_s)
        child.restarts += 1
        await self._spawn(child)

    async def _end(self, child: Child, patience_s: float) -> None:
        async with child.changing:
            await self._end_locked(child, patience_s)

    async def _end_locked(self, child: Child, patience_s: float) -> None:
        if child.alive:
            assert child.process is not None
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
            try:
                await asyncio.wait_for(child.process.wait(), patience_s)
            except TimeoutError:
                self._console.step(
                    f"{child.program.name} did not stop in {patience_s:.0f} s: killed"
                )
                child.process.kill()
                await child.process.wait()
        (self._run / f"{child.program.name}.pid").unlink(missing_ok=True)


def _rotate(log: Path) -> None:
    """Keep one older file, so that months of starts do not fill the disk."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
