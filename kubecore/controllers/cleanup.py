"""Ends what is being deleted with content: empties namespaces and takes a CRD's objects with it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

from corekit.backoff import Backoff
from kubecore.errors import ApiStatusError
from kubecore.kinds.resource import Resource
from kubecore.objects.admission import CRD_FINALIZER
from kubecore.objects.client import Objects

logger = logging.getLogger(__name__)

# Objects with finalizers or a grace period go when someone lets them; look again this often.
_RETRY_S = (0.2, 5.0)

Object = dict[str, Any]


class Cleanup:
    """Component: one task per kind of container; each works off what is marked as being deleted."""

    name = "cleanup"

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        registry = self._objects.registry
        namespaces = registry.find("", "v1", "namespaces")
        crds = registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert namespaces is not None
        assert crds is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(namespaces))
            group.create_task(self._follow(crds))

    async def _follow(self, resource: Resource) -> None:
        """Work through the marked objects; start over when one is marked or after a pause."""
        backoff = Backoff(*_RETRY_S)
        while True:
            found, version = await self._objects.list(resource)
            marked = [obj for obj in found if "deletionTimestamp" in obj["metadata"]]
            done = [await self._finish(resource, obj) for obj in marked]
            if all(done):
                backoff.reset()
                await self._await_change(resource, version, timeout_s=None)
            else:
                await self._await_change(resource, version, timeout_s=backoff.next_delay_s())

    async def _await_change(
        self, resource: Resource, version: str, timeout_s: float | None
    ) -> None:
        """Return when an object is marked after `version`, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                async for event in self._objects.watch(resource, resource_version=version):
                    if event.type != "DELETED" and "deletionTimestamp" in event.obj["metadata"]:
                        return
        except TimeoutError:
            return
        except ApiStatusError as exc:
            if exc.status != 410:
                raise

    async def _finish(self, resource: Resource, obj: Object) -> bool:
        """Delete what `obj` contains; let it go and return True once nothing is left."""
        name = obj["metadata"]["name"]
        try:
            if resource.plural == "namespaces":
                if await self._remains(self._objects.registry.resources(), name):
                    return False
                freed = {**obj, "spec": {"finalizers": []}}
                await self._objects.update(resource, "", name, freed, subresource="finalize")
                return True
            if CRD_FINALIZER not in obj["metadata"].get("finalizers", []):
                return True
            group, plural = obj["spec"]["group"], obj["spec"]["names"]["plural"]
            served = [
                r
                for r in self._objects.registry.resources()
                if (r.group, r.plural) == (group, plural)
            ]
            if await self._remains(served[:1], ""):
                return False
            others = [f for f in obj["metadata"]["finalizers"] if f != CRD_FINALIZER]
            freed = {"metadata": {"finalizers": others or None}}
            await self._objects.patch(resource, "", name, freed)
        except ApiStatusError as exc:
            logger.debug("%s %s: not finished yet: %s", resource.kind, name, exc)
            return exc.status == 404
        return True

    async def _remains(self, resources: list[Resource], namespace: str) -> bool:
        """Delete everything of these kinds; return whether something is left."""
        left = False
        for resource in _one_version_each(resources):
            if namespace and not resource.namespaced:
                continue
            found, _ = await self._objects.list(resource, namespace)
            for obj in found:
                left |= not await self._delete(resource, obj)
        return left

    async def _delete(self, resource: Resource, obj: Object) -> bool:
        metadata = obj["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        try:
            if "deletionTimestamp" not in metadata:
                await self._objects.delete(resource, *place)
            await self._objects.get(resource, *place)
        except ApiStatusError as exc:
            if exc.status != 404:
                raise
            return True
        return False


def _one_version_each(resources: list[Resource]) -> list[Resource]:
    return list({resource.storage_name: resource for resource in resources}.values())
