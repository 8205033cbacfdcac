"""Does what the state machine planned for one pod, and remembers what was refused."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgecore.edged.containers.containerconfig import log_folder
from edgecore.edged.containers.environment import Lookup
from edgecore.edged.machine.backoff import POST_START_ERROR, RETRY_S, refused
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
from edgecore.edged.pods.stopper import Stopper
from edgecore.edged.probes.hooks import HookError, run_hook
from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.inputs import VolumeInputs
from edgecore.edged.volumes.podvolumes import PodVolumes

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0  # of a sandbox; doubled up to RETRY_S
_IMAGE_WORDS = (
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
)


class Actor:
    """One pod's hands."""

    def __init__(
        self, site: Site, memory: PodMemory, reporter: PodReporter, volumes: PodVolumes
    ) -> None:
        self._site, self._memory, self._reporter, self._volumes = site, memory, reporter, volumes
        self._told: dict[str, str] = {}
        self._expired: tuple[str, ...] = ()
        self._sandbox_failures = 0
        self._stopper = Stopper(site.runtime, reporter)
        self.starting: set[str] = set()  # containers that start, postStart hook included
        self._extra = {"pod": f"{memory.namespace}/{memory.name}"}

    async def perform(
        self, pod: Pod, actions: Sequence[Action], lookup: Lookup, view: View, pod_ips: list[str]
    ) -> float | None:
        """Do `actions`; return seconds to wait if the pod's volumes or sandbox cannot be made now.

        What a single container is refused is remembered for the next plan, and the rest goes on.
        """
        starts = [a for a in actions if isinstance(a, StartContainer)]
        endings = [a for a in actions if not isinstance(a, StartContainer | RunSandbox)]
        await self.end(endings, pod, pod_ips)
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
            self._sandbox_failures += 1
            # Most first failures pass at once: a name that the attempt before has not given back yet.
            return float(min(FIRST_RETRY_S * 2 ** min(self._sandbox_failures - 1, 10), RETRY_S))
        self._told.clear()
        self._sandbox_failures = 0
        if starts and view.sandbox is not None:
            config = await self._site.provision.sandbox(pod, view.sandbox.attempt)
            running = {c.name: c.id for c in view.alive}
            launch = Launch(
                self._site, pod, self._volumes, lookup, view.sandbox.id, config, pod_ips,
                self._reporter, running,
            )  # fmt: skip
            for start in starts:
                await self._start(launch, start)
        return None

    async def end(
        self, actions: Sequence[Action], pod: Pod | None = None, pod_ips: Sequence[str] = ()
    ) -> None:
        """Do actions that only stop and remove; containers that stop next to each other stop together.

        Shapes:  pod: as last known; without it no hook can be run. pod_ips: for its hooks.
        """
        stops = [a for a in actions if isinstance(a, StopContainer)]
        for stop in stops:
            if stop.restart:
                self._memory.of(stop.name).restart = self._memory.of(stop.name).attempt
            self._reporter.emit("Killing", stop.message, stop.name)
            logger.info("%s", stop.message, extra={**self._extra, "container": stop.name})
        if stops:
            await self._reporter.flush()
            await self._stopper.stop(stops, pod, pod_ips)
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
                message = held.message.partition('": ')[0] + '"'
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
        self.starting.add(action.name)
        try:
            container_id = await launch.start(container, action.attempt)
            note.waiting, note.image, note.attempt = None, container.image, action.attempt
            logger.info("container started, attempt %d", action.attempt, extra=extra)
            await self._reporter.flush()
            await self._post_start(launch, container, container_id)
        except ContainerStartError as exc:
            now_s, before = self._site.clock(), note.waiting
            note.waiting = refused(note, exc.reason, exc.message, now_s, image=container.image)
            known = before is not None and (before.reason, before.message) == (
                exc.reason,
                exc.message,
            )
            logger.log(  # once: it is tried again every few seconds, for as long as the pod is there
                logging.DEBUG if known else logging.WARNING, "not started: %s", exc, extra=extra
            )
            if exc.reason != POST_START_ERROR:
                shown = exc.reason if exc.reason in _IMAGE_WORDS else exc.message
                self._reporter.emit("Failed", f"Error: {shown}", action.name, True)
        finally:
            self.starting.discard(action.name)

    async def _post_start(self, launch: Launch, container: Container, container_id: str) -> None:
        """Run the postStart hook, if there is one; a container whose hook failed is stopped."""
        hook, pod = container.lifecycle.post_start, launch.pod
        if hook is None:
            return
        address = "".join(launch.pod_ips[:1])
        try:
            await run_hook(self._site.runtime, hook, pod, container, container_id, address)
        except HookError as exc:
            # Not what the hook said: that may hold a secret, and Events are read by many.
            self._reporter.emit("FailedPostStartHook", "PostStartHook failed", container.name, True)
            grace_s = pod.spec.termination_grace_period_seconds
            word = "FailedPostStartHook"
            stop = StopContainer(container_id, container.name, grace_s, word)
            await self.end([stop], pod, launch.pod_ips)
            raise ContainerStartError(POST_START_ERROR, str(exc)) from exc


def _container_named(pod: Pod, name: str) -> Container:
    return next(c for c in pod.spec.every_container if c.name == name)
