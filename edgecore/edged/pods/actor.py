"""Does what the state machine planned for one pod, and remembers what was refused."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgecore.edged.containers.containerconfig import log_folder
from edgecore.edged.containers.environment import Lookup
from edgecore.edged.machine.backoff import RETRY_S, refused
from edgecore.edged.machine.memory import PodMemory, Waiting
from edgecore.edged.machine.planning import (
    Action,
    RemoveContainer,
    RemoveSandbox,
    RunSandbox,
    StartContainer,
    StopContainer,
    StopSandbox,
)
from edgecore.edged.machine.view import View
from edgecore.edged.pods.launch import Launch
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.pods.site import Site
from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.inputs import VolumeInputs
from edgecore.edged.volumes.podvolumes import PodVolumes

logger = logging.getLogger(__name__)

_IMAGE_WORDS = ("ErrImagePull", "ErrImageNeverPull", "InvalidImageName")


class Actor:
    """One pod's hands."""

    def __init__(
        self, site: Site, memory: PodMemory, reporter: PodReporter, volumes: PodVolumes
    ) -> None:
        self._site, self._memory, self._reporter, self._volumes = site, memory, reporter, volumes
        self._told: dict[str, str] = {}
        self._expired: tuple[str, ...] = ()
        self._extra = {"pod": f"{memory.namespace}/{memory.name}"}

    async def perform(
        self, pod: Pod, actions: Sequence[Action], lookup: Lookup, view: View, pod_ips: list[str]
    ) -> float | None:
        """Do `actions`; return seconds to wait if the pod's volumes or sandbox cannot be made now.

        What a single container is refused is remembered for the next plan, and the rest goes on.
        """
        starts = [a for a in actions if isinstance(a, StartContainer)]
        await self.end([a for a in actions if not isinstance(a, StartContainer | RunSandbox)])
        if not self.starts_something(actions):
            return None
        try:
            inputs = await self._site.volume_inputs(pod, lookup, pod_ips)
            self.tell_expired(inputs)
            await asyncio.to_thread(self._volumes.prepare, pod, inputs)
            for action in actions:
                if isinstance(action, RunSandbox):
                    await self._run_sandbox(pod, action)
        except VolumeError as exc:
            self.tell_once("FailedMount", exc.message)
            return RETRY_S  # or sooner: what it waits for wakes the worker
        except ContainerStartError as exc:
            self.tell_once("FailedCreatePodSandBox", f"Failed to create pod sandbox: {exc.message}")
            return RETRY_S
        self._told.clear()
        if starts and view.sandbox is not None:
            config = await self._site.provision.sandbox(pod, view.sandbox.attempt)
            launch = Launch(
                self._site, pod, self._volumes, lookup, view.sandbox.id, config, pod_ips,
                self._reporter,
            )  # fmt: skip
            for start in starts:
                await self._start(launch, start)
        return None

    async def end(self, actions: Sequence[Action]) -> None:
        """Do actions that only stop and remove; containers that stop next to each other stop together."""
        stops = [a for a in actions if isinstance(a, StopContainer)]
        for stop in stops:
            self._reporter.emit("Killing", stop.message, stop.name)
            logger.info("%s", stop.message, extra={**self._extra, "container": stop.name})
        if stops:
            await self._reporter.flush()
            runtime = self._site.runtime
            calls = (runtime.stop_container(s.id, s.grace_s) for s in stops)
            results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        for action in actions:
            await self._end_one(action)

    def starts_something(self, actions: Iterable[Action]) -> bool:
        """Return whether any of `actions` needs the pod's volumes."""
        return any(isinstance(a, StartContainer | RunSandbox) for a in actions)

    def failures(self) -> dict[str, Waiting]:
        """Return why containers whose last start was refused are not running."""
        notes = self._memory.containers.items()
        return {name: note.waiting for name, note in notes if note.waiting is not None}

    def forget_config_failures(self) -> None:
        """Let containers that waited for a ConfigMap or Secret try again now."""
        for note in self._memory.containers.values():
            if note.waiting is not None and note.waiting.reason == "CreateContainerConfigError":
                note.waiting = None

    def tell_holds(self, pod: Pod, holds: Mapping[str, Waiting]) -> None:
        """Emit the Events of back-offs, once for each."""
        for name, held in holds.items():
            if held.reason == "CrashLoopBackOff":
                message = f"Back-off restarting failed container {name} in pod {pod.full_name}"
                self.tell_once("BackOff", message, name, mark=str(held.retry_s))
            elif held.reason == "ImagePullBackOff":
                message = held.message.split(": ErrImagePull: ")[0]
                self.tell_once("BackOff", message, name, mark=str(held.retry_s), warning=False)
                self.tell_once("Failed", "Error: ImagePullBackOff", name, mark=str(held.retry_s))

    def tell_once(
        self,
        reason: str,
        message: str,
        container: str = "",
        *,
        mark: str = "",
        warning: bool = True,
    ) -> None:
        """Emit an Event unless it is the one last emitted for this reason and container."""
        key, value = f"{reason}/{container}", f"{mark}/{message}"
        if self._told.get(key) == value:
            return
        self._told[key] = value
        self._reporter.emit(reason, message, container, warning)
        logger.log(
            logging.WARNING if warning else logging.INFO,
            "%s: %s", reason, message, extra={**self._extra, "container": container},
        )  # fmt: skip

    def tell_expired(self, inputs: VolumeInputs) -> None:
        """Say once that a token is served beyond its end."""
        for message in inputs.tokens.expired:
            if message not in self._expired:  # `tell_once` starts again with each start
                self.tell_once("TokenExpired", message)
        self._expired = inputs.tokens.expired

    def log_dir(self, pod: Pod | None) -> str:
        """Return the folder of the pod's logs, "" if its name is not known."""
        return log_folder(pod, self._site.settings.log_dir) if pod else ""

    @staticmethod
    def remove_logs(folder: Path) -> None:
        """Delete the pod's logs; blocks."""
        shutil.rmtree(folder, ignore_errors=True)

    async def _end_one(self, action: Action) -> None:
        runtime = self._site.runtime
        if isinstance(action, StopSandbox):
            await runtime.stop_sandbox(action.id)
        elif isinstance(action, RemoveSandbox):
            await runtime.remove_sandbox(action.id)
        elif isinstance(action, RemoveContainer):
            await runtime.remove_container(action.id)

    async def _run_sandbox(self, pod: Pod, action: RunSandbox) -> None:
        provision = self._site.provision
        config = await provision.sandbox(pod, action.attempt, self.tell_once)
        await provision.make_cgroup(pod)
        sandbox_id = await self._site.runtime.run_sandbox(config)
        logger.info("sandbox %s runs", sandbox_id[:12], extra=self._extra)

    async def _start(self, launch: Launch, action: StartContainer) -> None:
        container = _container_named(launch.pod, action.name)
        note = self._memory.of(action.name)
        note.back_off = action.back_off
        extra = {**self._extra, "container": action.name}
        try:
            await launch.start(container, action.attempt)
        except ContainerStartError as exc:
            note.waiting = refused(note, exc.reason, exc.message, self._site.clock())
            shown = exc.reason if exc.reason in _IMAGE_WORDS else exc.message
            self._reporter.emit("Failed", f"Error: {shown}", action.name, True)
            logger.warning("not started: %s", exc, extra=extra)
            return
        note.waiting, note.image, note.attempt = None, container.image, action.attempt
        logger.info("container started, attempt %d", action.attempt, extra=extra)
        await self._reporter.flush()


def _container_named(pod: Pod, name: str) -> Container:
    return next(c for c in (*pod.spec.init_containers, *pod.spec.containers) if c.name == name)
