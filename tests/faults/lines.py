"""How the harness talks with the processes that it torments: JSON lines on their standard input and output."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LIMIT_BYTES = 64 << 20  # of one line: a dump of everything that a node holds


class Lines:
    """The process's own side: commands come in, answers and events go out."""

    def __init__(self, commands: dict[str, Callable[..., Awaitable[Any]]]) -> None:
        self._commands = commands

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event; lines are short enough to be written whole, or the reader is gone."""
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()

    async def serve(self) -> None:
        """Carry out commands, each in a task of its own, until standard input ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LIMIT_BYTES)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tasks: set[asyncio.Task[None]] = set()
        while line := await reader.readline():
            task = asyncio.create_task(self._answer(json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()

    async def _answer(self, command: Json) -> None:
        number, do = command.pop("id"), command.pop("do")
        try:
            result = await self._commands[do](**command)
        except Exception as exc:
            self.emit("answer", id=number, error=f"{type(exc).__name__}: {exc}")
        else:
            self.emit("answer", id=number, result=result)


def usage_of(pid: int | str = "self") -> Json:
    """Return a process's memory and descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "rss_bytes": pages * resource.getpagesize(),
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


class ProcessGoneError(Exception):
    """The process ended before it answered."""


class RefusedError(Exception):
    """The process could not do what it was told; the text says why."""


class Process:
    """The harness's side of one process. Its standard error goes to `log`."""

    def __init__(self, name: str, log: Path, on_event: Callable[[Json], None]) -> None:
        self.name, self._log, self._on_event = name, log, on_event
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = 0
        self._reading: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, module: str, *arguments: str, env: dict[str, str]) -> None:
        """Start `python -m module arguments`."""
        assert not self.running
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=env,
                limit=LIMIT_BYTES,
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read(self._process))

    async def ask(self, do: str, **fields: Any) -> Any:
        """Have `do` done; return its result. Raises: ProcessGoneError, RefusedError."""
        if not self.running:
            raise ProcessGoneError(self.name)
        self._numbers += 1
        number = self._numbers
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        assert self._process is not None
        assert self._process.stdin is not None
        line = json.dumps({"id": number, "do": do, **fields}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            await self._process.stdin.drain()
        except OSError:
            pass  # it is dying; `_read` says so to all who wait
        return await answer

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and everything that it said; return its exit status."""
        assert self._process is not None
        assert self._reading is not None
        status = await self._process.wait()
        await self._reading
        return status

    def log_tail(self, count: int = 12) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log_text().splitlines()[-count:])

    def log_text(self) -> str:
        """Return its whole log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if not line.endswith(b"\n"):
                break  # killed while it wrote
            said = json.loads(line)
            if said["event"] != "answer":
                self._on_event(said)
                continue
            answer = self._waiting.pop(said["id"])
            if answer.done():
                continue
            if "error" in said:
                answer.set_exception(RefusedError(said["error"]))
            else:
                answer.set_result(said["result"])
        await process.wait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ProcessGoneError(self.name))
        self._waiting.clear()
