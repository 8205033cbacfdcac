"""Ends containers of one pod as kubelet does: preStop hook, its turn, SIGTERM, SIGKILL, all within one grace."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from corekit.errors import EdgeError
from edgecore.edged.machine.actions import StopContainer
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.probes.hooks import run_hook
from edgecore.edged.runtime import ContainerRuntime
from edgecore.edged.spec.podspec import Container, Pod

logger = logging.getLogger(__name__)

# However little is left of the grace: kubelet always gives a process this long after SIGTERM.
MIN_GRACE_S = 2.0


class Stopper:
    """Stops what it is told to, several at a time."""

    def __init__(self, runtime: ContainerRuntime, reporter: PodReporter) -> None:
        self._runtime, self._reporter = runtime, reporter

    async def stop(
        self, stops: Sequence[StopContainer], pod: Pod | None, pod_ips: Sequence[str]
    ) -> None:
        """Return once all have ended. Raises: the first failure, after all were tried."""
        ended = {stop.id: asyncio.Event() for stop in stops}
        calls = (self._stop_one(stop, ended, pod, pod_ips) for stop in stops)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _stop_one(
        self,
        stop: StopContainer,
        ended: Mapping[str, asyncio.Event],
        pod: Pod | None,
        pod_ips: Sequence[str],
    ) -> None:
        begun_s = time.monotonic()
        try:
            container = _container_named(pod, stop.name)
            if pod is not None and container is not None and stop.grace_s > 0:
                await self._pre_stop(pod, container, stop, pod_ips)
            await _turn(stop, ended, begun_s + stop.grace_s)
            spent_s = int(time.monotonic() - begun_s)  # whole seconds: a grace is one
            left_s = max(stop.grace_s - spent_s, MIN_GRACE_S)
            await self._runtime.stop_container(stop.id, left_s)
        finally:
            ended[stop.id].set()

    async def _pre_stop(
        self, pod: Pod, container: Container, stop: StopContainer, pod_ips: Sequence[str]
    ) -> None:
        hook = container.lifecycle.pre_stop
        if hook is None:
            return
        address = "".join(pod_ips[:1])
        try:
            async with asyncio.timeout(stop.grace_s):
                await run_hook(self._runtime, hook, pod, container, stop.id, address)
        except TimeoutError:
            logger.info("preStop hook not ended in the grace", extra={"container": stop.name})
        except EdgeError as exc:
            # Not what the hook said: that may hold a secret, and Events are read by many.
            self._reporter.emit("FailedPreStopHook", "PreStopHook failed", stop.name, True)
            logger.warning("preStop hook failed: %s", exc, extra={"container": stop.name})


async def _turn(stop: StopContainer, ended: Mapping[str, asyncio.Event], deadline_s: float) -> None:
    """Wait until all that ends before `stop` has ended, while there is grace left."""
    try:
        async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
            for other in stop.after:
                if other in ended:
                    await ended[other].wait()
    except TimeoutError:
        return


def _container_named(pod: Pod | None, name: str) -> Container | None:
    every = pod.spec.every_container if pod is not None else ()
    return next((c for c in every if c.name == name), None)
