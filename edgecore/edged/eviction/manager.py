"""The component that keeps the node alive when something runs short: conditions, sweeping, ending pods."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from corekit.errors import StoreError
from corekit.logs import RepeatedFault
from edgecore.edged.admission.demands import Demands
from edgecore.edged.eviction.ranking import (
    PodUse,
    over_own_limits,
    ranked,
    starved_message,
)
from edgecore.edged.eviction.signals import read_signals, same_disk
from edgecore.edged.eviction.use import has_limits, pod_use
from edgecore.edged.machine.memory import EVICTED
from edgecore.edged.runtime import RuntimeUnavailableError
from edgecore.edged.spec.podspec import Pod
from edgecore.edged.stats.samples import Snapshot
from edgecore.edged.thresholds import (
    ALLOCATABLE_MEMORY,
    CONDITIONS,
    RESOURCES,
    Observation,
    Observations,
    PressureState,
    Threshold,
    due,
    met,
    observe,
    parse_hard_thresholds,
    parse_thresholds,
)
from edgecore.edged.usage import MeteredRuntime
from edgecore.settings import PodSettings

logger = logging.getLogger(__name__)

HARD_GRACE_S = 1.0  # kubelet's: what ends a pod at once still lets it hear SIGTERM
CLEANUP_LIMIT_S = 30.0  # of waiting for an ended pod before the next look
CLEANUP_CHECK_S = 0.5
# (reason, message) of a warning Event about the node.
Tell = Callable[[str, str], Awaitable[None]]


class Evictable(Protocol):
    """A pod that has a place on this node."""

    @property
    def pod(self) -> Pod | None:
        """Its record."""

    @property
    def demands(self) -> Demands | None:
        """What it asks of the node."""

    @property
    def is_released(self) -> bool:
        """Whether nothing of it runs any more, and what it took was given back."""

    def evict(self, reason: str, message: str, grace_s: float, disruption: str = "") -> bool:
        """End it as Failed; False if it has ended already."""


class Sweeper(Protocol):
    """What can be had without ending anything."""

    async def sweep_containers(self) -> int:
        """Remove dead containers."""

    async def remove_unused_images(self) -> int:
        """Remove every image that nobody uses."""


class EvictionManager:
    """Looks every few seconds; ends at most one pod for the sake of the node, then looks again.

    Shapes:  pods: returns the pods that could be ended, by uid. readings: returns a fresh snapshot of all use.
             pods_memory: returns what is left of the memory of all pods together, None if it has no limit.
    """

    name = "eviction"

    def __init__(
        self,
        settings: PodSettings,
        runtime: MeteredRuntime,
        *,
        pods: Callable[[], Mapping[str, Evictable]],
        readings: Callable[[], Awaitable[Snapshot]],
        sweeper: Sweeper,
        tell: Tell,
        pods_memory: Callable[[], Awaitable[Observation | None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._runtime, self._clock = settings, runtime, clock
        self._pods_memory = pods_memory
        self._pods, self._readings, self._sweeper, self._tell = pods, readings, sweeper, tell
        self._thresholds = [
            *parse_hard_thresholds("pods.eviction_hard", settings.eviction_hard),
            *parse_thresholds(
                "pods.eviction_soft", settings.eviction_soft, settings.eviction_soft_grace_s
            ),
        ]
        self._node_folder = Path(settings.root_dir)
        self._image_folder: Path | None = None
        self._state = PressureState.calm()
        self._conditions: tuple[str, ...] = ()
        self._listeners: list[Callable[[tuple[str, ...]], None]] = []
        self._fault = RepeatedFault(logger, "eviction")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the pressure conditions that hold, as MemoryPressure."""
        return self._conditions

    def on_change(self, listener: Callable[[tuple[str, ...]], None]) -> None:
        """Call `listener` with the conditions whenever they change."""
        self._listeners.append(listener)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            ended: list[Evictable] = []
            try:
                ended = await self.look()
                self._fault.cleared()
            except (RuntimeUnavailableError, StoreError, OSError) as exc:
                self._fault.failed(exc)
            if ended:
                await self._cleaned_up(ended)
            else:
                await asyncio.sleep(self._settings.eviction_period_s)

    async def look(self) -> list[Evictable]:
        """Look once, and do what is due; return the pods that were ended."""
        observations = await self._observe()
        self._note(observations)
        pods = dict(self._pods())
        if ended := await self._enforce_own_limits(pods):
            return ended
        if not (urgent := due(self._state, self._clock())):
            return []
        threshold = urgent[0]
        resource = RESOURCES[threshold.signal]
        logger.warning("%s runs short, reclaiming it", resource)
        await self._tell("EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if CONDITIONS[threshold.signal] == "DiskPressure" and await self._swept_enough():
            return []
        return await self._end_one(threshold, await self._observe(), pods)

    async def _observe(self) -> Observations:
        if self._image_folder is None:
            try:
                disk = await self._runtime.image_filesystem()
                self._image_folder = Path(disk.path) if disk.path else None
            except RuntimeUnavailableError:  # memory and the node's own disk matter all the same
                self._image_folder = None
        found = await asyncio.to_thread(read_signals, self._node_folder, self._image_folder)
        of_pods = await self._memory_of_pods()
        return found if of_pods is None else {**found, ALLOCATABLE_MEMORY: of_pods}

    async def _memory_of_pods(self) -> Observation | None:
        try:
            return await self._pods_memory() if self._pods_memory is not None else None
        except (
            RuntimeUnavailableError
        ):  # it says where pods' cgroups lie; the rest matters all the same
            return None

    def _note(self, observations: Observations) -> None:
        """Take the observations into the state, and tell who listens what changed."""
        now_s = self._clock()
        self._state = observe(self._state, met(self._thresholds, observations), now_s)
        held = self._state.conditions(now_s, self._settings.eviction_pressure_transition_s)
        if held == self._conditions:
            return
        logger.log(
            logging.WARNING if held else logging.INFO,
            "node pressure: %s",
            ", ".join(held) or "none",
        )
        self._conditions = held
        for listener in self._listeners:
            listener(held)

    async def _enforce_own_limits(self, pods: Mapping[str, Evictable]) -> list[Evictable]:
        limited = {uid: p for uid, p in pods.items() if p.pod is not None and has_limits(p.pod)}
        if not limited:
            return []
        uses = _uses(limited, await self._readings())
        verdicts = over_own_limits(uses, own_image_disk=await self._own_image_disk())
        return [
            pods[verdict.uid]
            for verdict in verdicts
            if pods[verdict.uid].evict(EVICTED, verdict.message, HARD_GRACE_S)
        ]

    async def _swept_enough(self) -> bool:
        """Sweep dead containers and unused images; return whether that was enough."""
        await self._sweeper.sweep_containers()
        await self._sweeper.remove_unused_images()
        return not met(self._thresholds, await self._observe())

    async def _end_one(
        self, threshold: Threshold, observations: Observations, pods: Mapping[str, Evictable]
    ) -> list[Evictable]:
        uses = _uses(pods, await self._readings())
        order = ranked(uses, threshold.signal, own_image_disk=await self._own_image_disk())
        grace_s = self._settings.eviction_max_pod_grace_s if threshold.grace_s else HARD_GRACE_S
        for use in order:
            if use.demands.critical:
                continue
            message = starved_message(use, threshold, observations)
            victim = pods[use.demands.uid]
            if victim.evict(EVICTED, message, grace_s, message):
                return [victim]
        logger.warning("no pod can be ended for %s", RESOURCES[threshold.signal])
        return []

    async def _own_image_disk(self) -> bool:
        if self._image_folder is None:
            return False
        return not await asyncio.to_thread(same_disk, self._node_folder, self._image_folder)

    async def _cleaned_up(self, ended: Sequence[Evictable]) -> None:
        deadline = time.monotonic() + CLEANUP_LIMIT_S
        while time.monotonic() < deadline and not all(pod.is_released for pod in ended):
            await asyncio.sleep(CLEANUP_CHECK_S)


def _uses(pods: Mapping[str, Evictable], snapshot: Snapshot) -> list[PodUse]:
    samples = {sample.pod.uid: sample for sample in snapshot.pods}
    return [
        pod_use(pod.pod, pod.demands, samples.get(uid))
        for uid, pod in pods.items()
        if pod.pod is not None and pod.demands is not None
    ]
