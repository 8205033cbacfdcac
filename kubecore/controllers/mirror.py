"""A local copy of all objects of one kind, kept by list and watch: what kubecore's own components decide from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource

Object = dict[str, Any]
# In-process, so a failure is rare and soon over; the pause only keeps a broken store from a busy loop.
RELIST_DELAY_S = 0.2


class Changed(Protocol):
    """One change of one object."""

    @property
    def type(self) -> str:
        """ADDED, MODIFIED or DELETED."""

    @property
    def obj(self) -> Object:
        """The object after the change, or its last state."""


class ObjectClient(Protocol):
    """What a component needs of the API; `kubecore.objects.client.Objects` has it."""

    @property
    def registry(self) -> Registry:
        """The kinds that are served."""

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> tuple[list[Object], str]:
        """Return the objects and the resourceVersion to watch from."""

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[Changed]:
        """Yield every later change."""

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        """Store a new object."""

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        *,
        content_type: str = ...,
        subresource: str = "",
    ) -> Object:
        """Change an object."""

    async def bind(self, namespace: str, pod: str, node: str) -> None:
        """Assign a pod to a node."""


class Mirror:
    """The objects of `resource` by (namespace, name). `on_change` is called after each change of the copy.

    Shapes:  shrink: what is kept of an object. on_object: told each object before and after (None: not there).
    """

    def __init__(
        self,
        client: ObjectClient,
        resource: Resource,
        on_change: Callable[[], None],
        *,
        namespace: str = "",
        shrink: Callable[[Object], Object] = lambda obj: obj,
        on_object: Callable[[Object | None, Object | None], None] = lambda _before, _after: None,
    ) -> None:
        self._client, self._resource, self._on_change = client, resource, on_change
        self._shrink, self._on_object = shrink, on_object
        self._namespace = namespace
        self.objects: dict[tuple[str, str], Object] = {}
        self.synced = False

    async def run(self) -> None:
        """Keep the copy equal until cancelled; lists again whenever the watch has ended."""
        while True:
            try:
                await self._follow()
            except ApiStatusError:  # 410: too far behind; 500: the store failed
                await asyncio.sleep(RELIST_DELAY_S)

    async def _follow(self) -> None:
        objects, version = await self._client.list(self._resource, self._namespace)
        before, self.objects = self.objects, {key_of(obj): self._shrink(obj) for obj in objects}
        for key in before.keys() | self.objects.keys():
            self._on_object(before.get(key), self.objects.get(key))
        self.synced = True
        self._on_change()
        events = self._client.watch(self._resource, self._namespace, resource_version=version)
        async for event in events:
            self._take(event)
            self._on_change()

    def _take(self, event: Changed) -> None:
        key = key_of(event.obj)
        if event.type == "DELETED":
            self._on_object(self.objects.pop(key, None), None)
            return
        after = self._shrink(event.obj)
        self._on_object(self.objects.get(key), after)
        self.objects[key] = after


def key_of(obj: Object) -> tuple[str, str]:
    """Return (namespace, name)."""
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def builtin(client: ObjectClient, group: str, plural: str) -> Resource:
    """Return a built-in v1 resource."""
    resource = client.registry.find(group, "v1", plural)
    assert resource is not None, f"{plural} is built in"
    return resource
