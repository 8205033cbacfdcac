"""What devicecontroller needs of `cloudcore.kube`: one request, and caches to look into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from cloudcore.kube.informer import InformerHandler
from cloudcore.kube.resources import KubeObject
from synccore.messages import ObjectKey


class DeviceApi(Protocol):
    """The requests that are made. Both raise KubeApiError."""

    async def get(self, path: str) -> bytes:
        """Return an object."""

    async def patch(self, path: str, body: bytes, *, content_type: str = ...) -> bytes:
        """Patch an object."""


class Cache(Protocol):
    """All objects of one kind."""

    @property
    def synced(self) -> bool:
        """Whether it was complete once."""

    def get(self, key: ObjectKey) -> KubeObject | None:
        """Return the object as last seen."""

    def items(self) -> Iterator[KubeObject]:
        """Iterate over all objects."""

    def subscribe(self, handler: InformerHandler) -> None:
        """Tell `handler` what is there, then every change."""

    async def wait_synced(self) -> None:
        """Return once `synced`."""


class Follower:
    """An InformerHandler made of two functions."""

    def __init__(
        self, on_upsert: Callable[[KubeObject], None], on_delete: Callable[[ObjectKey], None]
    ) -> None:
        self.on_upsert, self.on_delete = on_upsert, on_delete

    def on_synced(self) -> None:
        """Nothing: who needs all objects waits for them."""
