"""The API without HTTP: what kubecore's own components use. Same rules, same path, plain dicts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource
from kubecore.objects.deletion import DeleteOptions
from kubecore.objects.operations import Operations, in_version
from kubecore.patching.patches import MERGE_PATCH

Object = dict[str, Any]


@dataclass(frozen=True)
class WatchEvent:
    """One change: `type` is ADDED, MODIFIED or DELETED."""

    type: str
    obj: Object


class Objects:
    """Create, read, change and watch objects in this process.

    Every object returned is the caller's own copy. Namespaces are "" for cluster-scoped kinds, and in `list`
    and `watch` also for "all namespaces".
    Raises:  ApiStatusError: as the same request over HTTP would answer.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def registry(self) -> Registry:
        """The kinds that are served; `registry.find(group, version, plural)` gives a Resource."""
        return self._operations.registry

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object."""
        return self._operations.get(resource, namespace, name).parse()

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> tuple[list[Object], str]:
        """Return the objects and the resourceVersion to `watch` from."""
        page = self._operations.list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return [entry.parse() for entry in page.entries], str(page.revision)

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        """Store a new object and return it as stored."""
        return (await self._operations.create(resource, namespace, obj)).entry.parse()

    async def update(
        self, resource: Resource, namespace: str, name: str, obj: Object, *, subresource: str = ""
    ) -> Object:
        """Replace an object, or only its status with subresource="status"."""
        written = await self._operations.update(
            resource, namespace, name, obj, subresource=subresource
        )
        return written.entry.parse()

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Object:
        """Change an object by a patch and return the result."""
        written = await self._operations.patch(
            resource, namespace, name, patch, content_type=content_type, subresource=subresource
        )
        return written.entry.parse()

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
    ) -> Object:
        """Delete an object, or start its graceful deletion; return its last state."""
        options = DeleteOptions(grace_period_s, uid, resource_version)
        return (await self._operations.delete(resource, namespace, name, options)).entry.parse()

    async def bind(self, namespace: str, pod: str, node: str) -> None:
        """Assign a pod to a node."""
        await self._operations.bind(namespace, pod, node)

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield every change after `resource_version` (from `list`), in order, until the caller stops.

        Raises:  ApiStatusError 410: too old, or the caller fell too far behind: list again.
        """
        with self._operations.watch(
            resource,
            namespace,
            after=int(resource_version),
            label_selector=label_selector,
            field_selector=field_selector,
        ) as subscription:
            async for change in subscription:
                yield WatchEvent(change.type, in_version(resource, change.entry).parse())
