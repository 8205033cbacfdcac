"""The component that keeps container logs small, and the links to them alive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from edgecore.edged.logs.links import link_folder, remove_dead_links
from edgecore.edged.logs.rotation import needs_rotation, put_aside, remove_old_attempts
from edgecore.edged.runtime import (
    ContainerPhase,
    ContainerState,
    RuntimeUnavailableError,
    SandboxState,
)
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.usage import MeteredRuntime
from edgecore.settings import PodSettings

logger = logging.getLogger(__name__)


class LogRotator:
    """Looks at the log of every running container every few seconds, as kubelet."""

    name = "logs"

    def __init__(
        self,
        settings: PodSettings,
        runtime: MeteredRuntime,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._runtime, self._clock = settings, runtime, clock
        self._max_bytes = _bytes_of(settings.container_log_max_size)
        self._log_dir = Path(settings.log_dir)
        self._links = link_folder(settings.container_log_links, settings.log_dir)
        self._fault = RepeatedFault(logger, "log rotation")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            try:
                await self.look()
                self._fault.cleared()
            except (RuntimeUnavailableError, OSError) as exc:
                self._fault.failed(exc)
            await asyncio.sleep(self._settings.container_log_period_s)

    async def look(self) -> None:
        """Rotate what is too big, delete logs of containers that are gone, and the links to them."""
        sandboxes = await self._runtime.list_sandboxes()
        logs = self._running_logs(sandboxes)
        for container_id in await asyncio.to_thread(self._too_big, logs):
            await self._rotate(container_id, logs[container_id])
        await asyncio.to_thread(self._sweep, sandboxes)

    def _running_logs(self, sandboxes: list[SandboxState]) -> dict[str, Path]:
        """Return container id -> log file of every running container."""
        return {
            container.id: self._folder(sandbox, container) / f"{container.attempt}.log"
            for sandbox in sandboxes
            for container in sandbox.containers
            if container.phase is ContainerPhase.RUNNING
        }

    def _folder(self, sandbox: SandboxState, container: ContainerState) -> Path:
        pod = sandbox.pod
        return self._log_dir / f"{pod.namespace}_{pod.name}_{pod.uid}" / container.name

    def _too_big(self, logs: dict[str, Path]) -> list[str]:
        return [key for key, log in logs.items() if needs_rotation(log, self._max_bytes)]

    def _sweep(self, sandboxes: list[SandboxState]) -> None:
        attempts: dict[Path, set[int]] = {}
        ids: set[str] = set()
        for sandbox in sandboxes:
            for container in sandbox.containers:
                attempts.setdefault(self._folder(sandbox, container), set()).add(container.attempt)
                ids.add(container.id)
        for folder, kept in attempts.items():
            if max(kept) > 0:
                remove_old_attempts(folder, kept)
        if self._links is not None:
            remove_dead_links(self._links, self._log_dir, ids)

    async def _rotate(self, container_id: str, log: Path) -> None:
        max_files = self._settings.container_log_max_files
        aside = await asyncio.to_thread(put_aside, log, max_files, self._clock())
        try:
            await self._runtime.reopen_log(container_id)
        except RuntimeUnavailableError:
            # It writes on into the renamed file: give that its name back, or nobody would find it.
            await asyncio.to_thread(aside.rename, log)
            raise


def _bytes_of(size: str) -> int:
    try:
        found = int(parse_quantity(size))
    except ValueError as exc:
        raise ConfigError(SETTINGS, "pods.container_log_max_size", str(exc)) from exc
    if found <= 0:
        raise ConfigError(SETTINGS, "pods.container_log_max_size", f"{size} is not more than 0")
    return found
