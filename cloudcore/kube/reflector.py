"""List, then watch, and again: keeps one cache equal to the API server through every fault in between."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from typing import NoReturn, Protocol

import msgspec

from cloudcore import metrics
from cloudcore.kube.client import KubeClient
from cloudcore.kube.decoding import decode
from cloudcore.kube.errors import (
    KubeForbiddenError,
    KubeGoneError,
    KubeMalformedError,
    KubeNotFoundError,
    KubeUnreachableError,
    Status,
    error_from_status,
)
from cloudcore.kube.history import History
from cloudcore.kube.resources import KubeObject, Resource, read_object
from cloudcore.settings import KubeSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

# As client-go: 5 to 10 minutes, so that a thousand watches do not end in the same second.
WATCH_TIMEOUT_S = (300, 600)
# The server ends a watch itself; this much later we stop believing that it will.
WATCH_GRACE_S = 30
# A watch that lived this long, or brought something, was of use: the next failure starts from the shortest delay.
USEFUL_WATCH_S = 10.0
# A lagging replica catches up within seconds; an API server restored from a backup never does.
STALE_LISTS_REFUSED = 3
# A restarting API server answers 404 for kinds whose CRD it has not loaded yet: emptying the cache at the
# first one would delete every device at the edge.
MISSING_LISTS_DOUBTED = 3
MISSING_POLL_S = (0.5, 5.0)  # while in doubt, afterwards
# "Too large resource version" and the like: an API server that lost history we have seen never agrees again.
REFUSED_WATCHES_BEFORE_RELIST = 3


class ReflectorSink(Protocol):
    """The cache that a reflector fills; `Informer` is the one there is."""

    resource: Resource

    def known(self) -> set[ObjectKey]:
        """Return the keys of all objects."""

    def upsert(self, obj: KubeObject) -> None:
        """Take `obj` in."""

    def delete(self, key: ObjectKey) -> None:
        """Forget `key` if it is there."""

    def mark_synced(self) -> None:
        """Say that the cache is complete."""

    def distrust(self) -> None:
        """Take every object that comes for a new state, whatever its version."""


class _ListMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815  (the API's name)
    continue_: str | None = msgspec.field(name="continue", default=None)


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None  # Go writes null for an empty slice


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_list_decoder = msgspec.json.Decoder(_List)
_event_decoder = msgspec.json.Decoder(_Event)
_status_decoder = msgspec.json.Decoder(Status)


class Reflector:
    """Keep `sink` equal to the API server while `run()` runs. A failure is a delay, never an end."""

    def __init__(
        self,
        client: KubeClient,
        sink: ReflectorSink,
        settings: KubeSettings,
        *,
        history: History | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Shapes: history: shared by all reflectors of one API server."""
        self._client, self._sink, self._resource = client, sink, sink.resource
        self._history = history or History()
        self._restores = self._history.restores
        self._page_size = settings.page_size
        self._rng = rng or random.Random()
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s, rng=self._rng)
        self._fault = RepeatedFault(logger, f"following {self._resource.plural}")
        self._version = ""  # resume from here; empty: list first
        self._fresh = False  # listed, and not watched since
        self._stale_lists = self._missing_lists = self._refused_watches = 0

    async def run(self) -> None:
        """Follow the resource until cancelled."""
        while True:
            try:
                if self._restores != self._history.restores:
                    self._begin_again()
                if self._version and not self._fresh:
                    await self._confirm()
                if not self._version:
                    await self._list()
                self._fresh = False
                pause_s = await self._watch_this_history()
            except KubeNotFoundError as exc:
                pause_s = self._missing(exc)
            except KubeForbiddenError as exc:
                pause_s = self._forbidden(exc)
            except KubeApiError as exc:
                pause_s = self._failed(exc)
            await asyncio.sleep(pause_s)

    async def _list(self) -> None:
        """Replace the sink's content page by page; deletions are known only after the last page."""
        metrics.relists.labels(self._resource.plural).inc()
        unseen = self._sink.known()
        newest = self._history.newest  # of before: others hear of changes while we list
        page = await self._page(None)
        version = page.metadata.resourceVersion
        self._refuse_stale(version, newest)
        while True:
            for raw in page.items or ():
                obj = self._decode(raw)
                unseen.discard(obj.key)
                self._sink.upsert(obj)
                self._history.saw_object(obj.resource_version)
            if not page.metadata.continue_:
                break
            page = await self._page(page.metadata.continue_)
        for key in unseen:
            self._sink.delete(key)
        self._note(version)
        self._fresh = True
        self._missing_lists = 0
        self._sink.mark_synced()
        self._fault.cleared()

    async def _confirm(self) -> None:
        """List again if the API server no longer knows the version that the next watch would resume from.

        One that was restored from a backup takes such a watch, and says nothing until it has counted up to there
        again: everything in between would be missed.
        """
        newest = self._history.newest
        version = (await self._page(None, limit=1)).metadata.resourceVersion
        if version.isdecimal() and int(version) < newest:
            plural = self._resource.plural
            logger.warning("%s: at %s, was at %s: listing", plural, version, newest)
            self._version = ""

    def _begin_again(self) -> None:
        """Take nothing that we know for known: the same version may stand for something else now."""
        self._restores = self._history.restores
        self._version = ""
        self._sink.distrust()

    def _note(self, version: str) -> None:
        self._version = version
        self._history.saw(version)

    async def _page(self, token: str | None, limit: int = 0) -> _List:
        params = {"limit": str(limit or self._page_size)}
        if token:
            params["continue"] = token
        path = self._resource.collection
        body = await self._client.get(path, params, accept=self._resource.list_accept)
        try:
            return decode(_list_decoder, body)
        except msgspec.DecodeError as exc:
            raise KubeMalformedError(200, "Malformed", f"GET {path}: {exc}") from exc

    async def _watch_this_history(self) -> float:
        """Watch until the watch ends, or another reflector finds that the server was restored."""
        watch = asyncio.ensure_future(self._watch())
        restored = asyncio.ensure_future(self._history.until_restored(self._restores))
        try:
            await asyncio.wait((watch, restored), return_when=asyncio.FIRST_COMPLETED)
            return watch.result() if watch.done() else 0.0
        finally:
            for task in (watch, restored):
                task.cancel()
            await asyncio.wait((watch, restored))

    async def _watch(self) -> float:
        """Follow changes until the watch ends; return how long to pause before the next one."""
        metrics.watch_restarts.labels(self._resource.plural).inc()
        timeout_s = self._rng.randint(*WATCH_TIMEOUT_S)
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(timeout_s),
        }
        loop = asyncio.get_running_loop()
        began_s, began_version = loop.time(), self._version
        lines = self._client.stream(
            self._resource.collection,
            params,
            accept=self._resource.watch_accept,
            deadline_s=timeout_s + WATCH_GRACE_S,
        )
        try:
            async with aclosing(lines):
                async for line in lines:
                    self._take(line)
        finally:
            lived = loop.time() - began_s >= USEFUL_WATCH_S
            if lived or self._version != began_version:
                self._backoff.reset()
                self._refused_watches = 0
                self._fault.cleared()
        return 0.0 if lived else self._backoff.next_delay_s()

    def _take(self, line: bytes) -> None:
        try:
            event = decode(_event_decoder, line)
        except msgspec.DecodeError as exc:
            self._malformed(exc)
        if event.type == "ERROR":
            raise self._watch_error(event.object)
        if event.type == "BOOKMARK":  # an object with nothing but a resourceVersion
            self._note(self._bookmark(event.object))
            return
        obj = self._decode(event.object)
        if event.type in ("ADDED", "MODIFIED"):
            self._sink.upsert(obj)
        elif event.type == "DELETED":
            self._sink.delete(obj.key)
        else:
            self._malformed(f"unknown event type {event.type[:40]!r}")
        self._history.saw_object(obj.resource_version)
        self._note(obj.resource_version)

    def _bookmark(self, raw: msgspec.Raw) -> str:
        try:
            return decode(_list_decoder, raw).metadata.resourceVersion
        except msgspec.DecodeError as exc:
            self._malformed(exc)

    def _watch_error(self, raw: msgspec.Raw) -> KubeApiError:
        try:
            said = decode(_status_decoder, raw)
        except msgspec.DecodeError:
            said = Status(message="ERROR event without a Status")
        return error_from_status(f"WATCH {self._resource.collection}", said, said.code or 500)

    def _decode(self, raw: msgspec.Raw) -> KubeObject:
        try:
            return read_object(self._resource.kind, raw)
        except msgspec.DecodeError as exc:
            self._malformed(exc)

    def _malformed(self, problem: object) -> NoReturn:
        what = f"{self._resource.collection}: {problem}"
        raise KubeMalformedError(200, "Malformed", what)

    def _refuse_stale(self, version: str, newest: int) -> None:
        """Refuse a list older than what was seen of any kind: nodes would be sent the past.

        Raises:  KubeUnreachableError: for the first few; then the API server was restored, and is right.
        """
        if self._restores != self._history.restores:  # found by another reflector while we listed
            raise KubeUnreachableError(200, "Stale", f"{self._resource.collection}: restored")
        if not version.isdecimal() or int(version) >= newest:  # opaque: nothing can be said
            self._stale_lists = 0
            return
        self._stale_lists += 1
        problem = f"list at resourceVersion {version}, but {newest} was seen before"
        if self._stale_lists <= STALE_LISTS_REFUSED:
            raise KubeUnreachableError(200, "Stale", f"{self._resource.collection}: {problem}")
        logger.warning("%s: accepted: %s", self._resource.plural, problem)
        self._stale_lists = 0
        self._history.restored(version)
        self._restores = self._history.restores
        self._sink.distrust()

    def _failed(self, exc: KubeApiError) -> float:
        self._fault.failed(exc)
        if isinstance(exc, KubeGoneError | KubeMalformedError):
            # An event we cannot read stands in the way of all later ones; a list goes round it.
            self._version = ""
        elif exc.status and exc.status not in (429, 503):
            self._refused_watches += 1
            if self._refused_watches >= REFUSED_WATCHES_BEFORE_RELIST:
                self._version, self._refused_watches = "", 0
        asked_s = min(exc.retry_after_s or 0.0, self._backoff.maximum_s)
        return max(self._backoff.next_delay_s(), asked_s)

    def _forbidden(self, exc: KubeForbiddenError) -> float:
        plural = self._resource.plural
        self._fault.failed(
            f"cloudcore may not get, list and watch {plural}; grant it (deploy/rbac.yaml): {exc}"
        )
        # An operator has to act; the slowest pace, with jitter, is soon enough to notice.
        return self._backoff.maximum_s * self._rng.uniform(0.5, 1.0)

    def _missing(self, exc: KubeNotFoundError) -> float:
        self._version = ""
        if not self._resource.optional:
            return self._failed(exc)
        self._missing_lists += 1
        if self._missing_lists < MISSING_LISTS_DOUBTED:
            return MISSING_POLL_S[0]
        if self._missing_lists == MISSING_LISTS_DOUBTED:
            logger.info("%s: not in this cluster yet; waiting for the CRD", self._resource.plural)
            for key in self._sink.known():
                self._sink.delete(key)
            self._sink.mark_synced()
        return MISSING_POLL_S[1]
