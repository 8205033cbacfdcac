"""Fetches the bodies of config maps and secrets that a node needs; the informers only know that they changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

from cloudcore.kube.client import KubeClient
from cloudcore.kube.errors import KubeMalformedError, KubeNotFoundError
from cloudcore.kube.resources import KubeObject, Resource, read_object
from cloudcore.settings import KubeSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

# A restart of cloudcore fetches everything that is referred to: enough to hide latency, not to flood.
WORKERS = 8


class _State(Enum):
    QUEUED = 1
    BUSY = 2
    BUSY_AGAIN = 3  # changed while being fetched: what comes back may be old
    RETRYING = 4


class BodyFetcher:
    """Fetches what it is told to, several at a time, each key once at a time and the newest last.

    `needed(key)` is asked just before a fetch; `deliver(obj)` gets what was found, `missing(key)` is told of
    what does not exist. Failures are retried until they pass, because a node without a secret
    that exists is wrong.
    """

    def __init__(
        self,
        client: KubeClient,
        settings: KubeSettings,
        resources: Mapping[str, Resource],
        *,
        needed: Callable[[ObjectKey], bool],
        deliver: Callable[[KubeObject], None],
        missing: Callable[[ObjectKey], None],
    ) -> None:
        self._client, self._settings, self._resources = client, settings, resources
        self._needed, self._deliver, self._missing = needed, deliver, missing
        self._states: dict[ObjectKey, _State] = {}
        self._backoffs: dict[ObjectKey, Backoff] = {}
        self._queue: asyncio.Queue[ObjectKey] = asyncio.Queue()  # bounded by the keys in `_states`
        self._idle = asyncio.Event()
        self._idle.set()
        self._fault = RepeatedFault(logger, "fetching config maps and secrets")

    def want(self, key: ObjectKey) -> None:
        """Fetch `key` soon, or again if a fetch of it is under way."""
        state = self._states.get(key)
        if state is None:
            self._enqueue(key)
        elif state is _State.BUSY:
            self._states[key] = _State.BUSY_AGAIN

    async def wait_idle(self) -> None:
        """Return once everything wanted was delivered or is gone."""
        await self._idle.wait()

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"body fetcher {number}")

    def _enqueue(self, key: ObjectKey) -> None:
        self._idle.clear()
        self._states[key] = _State.QUEUED
        self._queue.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            if self._needed(key):
                self._states[key] = _State.BUSY
                try:
                    obj = await self._fetch(key)
                except KubeApiError as exc:
                    self._retry_later(key, exc)
                    continue
                if obj is not None:
                    self._deliver(obj)
                else:
                    self._missing(key)
            self._finish(key)

    async def _fetch(self, key: ObjectKey) -> KubeObject | None:
        path = self._resources[key.kind].path(key)
        try:
            raw = await self._client.get(path)
            return read_object(key.kind, raw)
        except KubeNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise KubeMalformedError(200, "Malformed", f"GET {path}: {exc}") from exc

    def _finish(self, key: ObjectKey) -> None:
        state = self._states.pop(key)
        self._backoffs.pop(key, None)
        if state is _State.BUSY_AGAIN:
            self._enqueue(key)
        if not self._backoffs:
            self._fault.cleared()
        if not self._states:
            self._idle.set()

    def _retry_later(self, key: ObjectKey, exc: KubeApiError) -> None:
        self._fault.failed(exc)
        self._states[key] = _State.RETRYING
        limits = self._settings.backoff_min_s, self._settings.backoff_max_s
        backoff = self._backoffs.setdefault(key, Backoff(*limits))
        # A timer, not a sleeping worker: eight keys that fail must not hold up the others.
        asyncio.get_running_loop().call_later(backoff.next_delay_s(), self._enqueue, key)
