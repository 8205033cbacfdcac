"""Caches of what the API server has, one per resource and process, kept by reflectors and read by controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

import msgspec

from cloudcore.kube.client import KubeClient
from cloudcore.kube.history import History
from cloudcore.kube.reflector import Reflector
from cloudcore.kube.resources import KubeObject, Resource
from cloudcore.settings import KubeSettings
from corekit.collector import settle
from synccore.messages import ObjectKey


class InformerHandler(Protocol):
    """Told about changes, in the loop, after the cache has them; must not block and must not raise."""

    def on_upsert(self, obj: KubeObject) -> None:
        """`obj` is new or changed."""

    def on_delete(self, key: ObjectKey) -> None:
        """The object is gone. One that came back under another uid is reported as deleted first."""

    def on_synced(self) -> None:
        """The cache is complete for the first time."""


class Informer:
    """The objects of one resource. `shrink` cuts what is kept of a body; everything by default."""

    def __init__(
        self, resource: Resource, *, shrink: Callable[[bytes], bytes] | None = None
    ) -> None:
        self.resource = resource
        self._shrink = (lambda _: b"") if resource.metadata_only else shrink
        self._objects: dict[ObjectKey, KubeObject] = {}
        self._handlers: list[InformerHandler] = []
        self._lookers: list[Callable[[KubeObject], None]] = []
        self._synced = asyncio.Event()

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def synced(self) -> bool:
        """Whether the cache was complete once. It stays true: later gaps end in a relist."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return once `synced`."""
        await self._synced.wait()

    def get(self, key: ObjectKey) -> KubeObject | None:
        """Return the object as last seen, or None."""
        return self._objects.get(key)

    def items(self) -> Iterator[KubeObject]:
        """Iterate over all objects; do not await while iterating."""
        return iter(self._objects.values())

    def subscribe(self, handler: InformerHandler) -> None:
        """Tell `handler` everything the cache has now, then every change."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            handler.on_upsert(obj)
        if self.synced:
            handler.on_synced()

    def inspect(self, look: Callable[[KubeObject], None]) -> None:
        """Show `look` every state that comes, whole, before it is cut; it must not block and must not raise."""
        self._lookers.append(look)

    # The reflector's side.

    def known(self) -> set[ObjectKey]:
        """Return the keys of all objects."""
        return set(self._objects)

    def upsert(self, obj: KubeObject) -> None:
        """Take `obj` in; what is known already is not reported again."""
        held = self._objects.get(obj.key)
        if held is not None and held.uid != obj.uid:
            self.delete(obj.key)
        elif held is not None and held.resource_version == obj.resource_version:
            return
        for look in self._lookers:
            look(obj)
        if self._shrink is not None:
            body = self._shrink(obj.body)
            obj = KubeObject(obj.key, obj.uid, obj.resource_version, obj.deleting, body)
        self._objects[obj.key] = obj
        for handler in self._handlers:
            handler.on_upsert(obj)

    def delete(self, key: ObjectKey) -> None:
        """Forget `key` if it is there."""
        if self._objects.pop(key, None) is not None:
            for handler in self._handlers:
                handler.on_delete(key)

    def distrust(self) -> None:
        """Take every object that comes for a new state, whatever its version."""
        for key, held in self._objects.items():
            self._objects[key] = msgspec.structs.replace(held, resource_version="")

    def mark_synced(self) -> None:
        """Say that the first list is complete."""
        if not self.synced:
            self._synced.set()
            for handler in self._handlers:
                handler.on_synced()


class Informers:
    """The component that keeps every informer of this process up to date; controllers share them by resource."""

    name = "informers"

    def __init__(self, client: KubeClient, settings: KubeSettings) -> None:
        self._client, self._settings = client, settings
        self._informers: dict[Resource, Informer] = {}
        self._running = False
        self.history = History()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to release: `run()` ends its reflectors."""

    def of(self, resource: Resource, *, shrink: Callable[[bytes], bytes] | None = None) -> Informer:
        """Return the one informer of `resource`; who asks first decides `shrink`. Ask before `run()`."""
        if resource not in self._informers:
            assert not self._running, f"an informer of {resource.plural} is asked for too late"
            self._informers[resource] = Informer(resource, shrink=shrink)
        return self._informers[resource]

    async def _settle(self) -> None:
        """Take what was listed out of the garbage collector's rounds: it stays, and walking it costs a third of a core."""
        for informer in self._informers.values():
            await informer.wait_synced()
        settle()

    async def run(self) -> None:
        """List and watch until cancelled."""
        self._running = True
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                reflector = Reflector(self._client, informer, self._settings, history=self.history)
                group.create_task(reflector.run(), name=f"reflector {informer.resource.plural}")
            group.create_task(self._settle(), name="informers settle")
            if not self._informers:
                await asyncio.Event().wait()
