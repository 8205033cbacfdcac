"""Component: runs mappers as processes of their own, and again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path
from typing import Self

from corekit.backoff import Backoff
from corekit.logs import RepeatedFault
from edgecore.settings import DmiSettings

logger = logging.getLogger(__name__)

BACKOFF_S = (0.5, 30.0)
# Who has run so long has not died of how it was started.
HEALTHY_S = 60.0
STOP_TIMEOUT_S = 2.0
_USAGE = 2  # the exit status of a mapper whose command line or driver is wrong


class MapperProcesses:
    """The mappers of the settings. A driver's crash, leak or hang is its own process's."""

    name = "mappers"

    def __init__(self, settings: DmiSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release: each process ends with the task that runs it."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for driver in self._settings.mappers:
                group.create_task(self._keep(driver), name=f"mapper {driver}")
            await asyncio.Event().wait()

    async def _keep(self, driver: str) -> None:
        backoff, fault = Backoff(*BACKOFF_S), RepeatedFault(logger, f"mapper {driver}")
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                status = await self._once(driver)
            except OSError as exc:  # no memory, no descriptors: of this machine, now
                fault.failed(f"cannot be started: {exc}")
                await asyncio.sleep(backoff.next_delay_s())
                continue
            if loop.time() - began_s > HEALTHY_S:
                backoff.reset()
                fault.cleared()
            why = "its command line or driver is wrong" if status == _USAGE else f"status {status}"
            fault.failed(f"ended ({why}), started again")
            await asyncio.sleep(backoff.next_delay_s())

    async def _once(self, driver: str) -> int:
        """Run the mapper until it ends; if cancelled, end it."""
        socket = Path(self._settings.socket)
        name = driver.rpartition("/")[2].removesuffix(".py")  # a driver may be a file
        own = socket.parent / f"{name}.sock"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mappers", "run", driver,
            "--edge-socket", str(socket), "--socket", str(own), "--attached",
            stdin=asyncio.subprocess.PIPE,  # ends with us, even if we are killed: two would drive one device
        )  # fmt: skip
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
