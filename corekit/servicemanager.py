"""What the service manager (systemd) is told: ready, alive, stopping; nothing where it did not ask.

Source:  sd_notify(3), sd_watchdog_enabled(3); `Type=notify` and `WatchdogSec=` of the units in deploy/systemd.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import MutableMapping

# Signs of life per watchdog period: one that comes late must not look like a death.
SIGNS_PER_PERIOD = 3


class ServiceManager:
    """Whoever started this process, if it wants to be told.

    Shapes:  environment: its variables for this are taken out, for no child of ours may speak in our name.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        period_us = environment.pop("WATCHDOG_USEC", "")
        wanted = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self._period_s = int(period_us) / 1e6 if period_us.isdecimal() and wanted else 0.0

    def ready(self) -> None:
        """Say that everything serves."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """Say that the end was asked for and is under way."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Give signs of life as long as the loop turns; return at once if nobody watches."""
        while self._address and self._period_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._period_s / SIGNS_PER_PERIOD)

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # Nobody listens, or its queue is full: no reason to end what runs.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        ):
            manager.setblocking(False)
            manager.sendto(state.encode(), self._address)
