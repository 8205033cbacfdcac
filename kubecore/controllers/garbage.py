"""Deletes objects whose owners are gone (metadata.ownerReferences), in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

from kubecore.errors import ApiStatusError
from kubecore.kinds.resource import Resource
from kubecore.objects.client import Objects
from kubecore.storage.store import Change, Store, StoredObject

logger = logging.getLogger(__name__)

Object = dict[str, Any]
_Place = tuple[str, str, str]  # storage, namespace, name

# Cheap test on the bytes: parsing every object at every change would cost more than the collecting.
_OWNED = b'"ownerReferences"'


class GarbageCollector:
    """Component: knows who owns whom, and deletes a dependent when its last owner goes."""

    name = "garbage"

    def __init__(self, store: Store, objects: Objects) -> None:
        self._store, self._objects = store, objects
        self._dependents: dict[str, set[_Place]] = {}
        self._waiting: set[_Place] = set()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._store.listen(self._on_change)
        for storage in self._store.storages():
            for entry in self._store.entries(storage):
                self._note(storage, entry)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            while self._waiting:
                await self._collect(self._waiting.pop())
            self._wake.clear()
            await self._wake.wait()

    def _on_change(self, change: Change) -> None:
        if change.type != "DELETED":
            self._note(change.storage, change.entry)
            return
        if not self._dependents:
            return
        uid = change.entry.parse()["metadata"].get("uid", "")
        if orphans := self._dependents.pop(uid, None):
            self._waiting |= orphans
            self._wake.set()

    def _note(self, storage: str, entry: StoredObject) -> None:
        if _OWNED not in entry.raw:
            return
        place = (storage, entry.namespace, entry.name)
        for reference in entry.parse()["metadata"].get("ownerReferences") or ():
            self._dependents.setdefault(reference.get("uid", ""), set()).add(place)
        # Its owner may have gone before it came.
        self._waiting.add(place)
        self._wake.set()

    async def _collect(self, place: _Place) -> None:
        """Delete the object at `place` unless one of its owners is there."""
        storage, namespace, name = place
        entry = self._store.get(storage, namespace, name)
        resource = self._resource(storage)
        if entry is None or resource is None:
            return
        metadata = entry.parse()["metadata"]
        references = metadata.get("ownerReferences") or []
        if not references or any(self._is_alive(r, namespace) for r in references):
            return
        try:
            await self._objects.delete(resource, namespace, name, uid=metadata["uid"])
            logger.info("%s %s/%s: deleted, its owner is gone", resource.kind, namespace, name)
        except ApiStatusError as exc:
            logger.debug("%s %s/%s: not collected: %s", resource.kind, namespace, name, exc)

    def _is_alive(self, reference: Object, namespace: str) -> bool:
        owner = self._objects.registry.kind(
            reference.get("apiVersion", ""), reference.get("kind", "")
        )
        if owner is None:
            return True  # a kind that is not served now may be again: keep what it owns
        home = namespace if owner.namespaced else ""
        entry = self._store.get(owner.storage_name, home, reference.get("name", ""))
        return entry is not None and entry.parse()["metadata"].get("uid") == reference.get("uid")

    def _resource(self, storage: str) -> Resource | None:
        for resource in self._objects.registry.resources():
            if resource.storage_name == storage:
                return resource
        return None
