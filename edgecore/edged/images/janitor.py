"""The component that sweeps out images nobody uses and containers nobody looks at any more."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Self

from corekit.errors import StoreError
from corekit.logs import RepeatedFault
from edgecore.edged.images.gc import (
    ImageNote,
    ImagePolicy,
    bytes_to_free,
    dead_to_remove,
    noted,
    removable,
    too_old,
)
from edgecore.edged.images.keyring import full_name
from edgecore.edged.runtime import ImageState, RuntimeUnavailableError
from edgecore.edged.usage import MeteredRuntime
from edgecore.settings import PodSettings

logger = logging.getLogger(__name__)

CONTAINER_PERIOD_S = 60.0  # kubelet's
# (reason, message) of a warning Event about the node.
Tell = Callable[[str, str], Awaitable[None]]


class Janitor:
    """Sweeps images by the fill of their disk, and dead containers by their number.

    Shapes:  wanted: returns the image names of all pods of this node: an image whose pod waits to be
             restarted is in use, because nobody may be there to pull it again.
    """

    name = "janitor"

    def __init__(
        self,
        settings: PodSettings,
        runtime: MeteredRuntime,
        *,
        wanted: Callable[[], Awaitable[AbstractSet[str]]],
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._runtime, self._clock = settings, runtime, clock
        self._wanted, self._tell = wanted, tell
        self._policy = ImagePolicy(
            settings.image_gc_high_percent,
            settings.image_gc_low_percent,
            settings.image_min_gc_age_s,
            settings.image_max_gc_age_s,
        )
        self._notes: dict[str, ImageNote] = {}
        self._first_look = True
        self._fault = RepeatedFault(logger, "sweeping images and containers")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        next_images_s = time.monotonic()  # a first look at once: it learns what is in use
        period_s = min(CONTAINER_PERIOD_S, self._settings.image_gc_period_s)
        while True:
            try:
                await self.sweep_containers()
                if time.monotonic() >= next_images_s:
                    next_images_s = time.monotonic() + self._settings.image_gc_period_s
                    await self.sweep_images()
                self._fault.cleared()
            except (RuntimeUnavailableError, StoreError, OSError) as exc:
                self._fault.failed(exc)
            await asyncio.sleep(period_s)

    async def sweep_images(self) -> int:
        """Remove images if their disk is too full, and those that lie too long; return the bytes that went."""
        images, used = await self._look()
        now_s = self._clock()
        freed = 0
        for image in too_old(images, used, self._notes, now_s, self._policy):
            freed += await self._remove(image, "unused for too long")
        filesystem = await self._runtime.image_filesystem()
        if not filesystem.path:
            return freed
        disk = await asyncio.to_thread(os.statvfs, _existing(Path(filesystem.path)))
        capacity, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if not capacity:
            await self._tell("InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
            return freed
        wanted = bytes_to_free(capacity, available, self._policy)
        if not wanted:
            return freed
        logger.info("image disk is too full, %d bytes of images should go", wanted)
        got = await self._free(images, used, wanted)
        if got < wanted:
            message = (
                "Failed to garbage collect required amount of images. Attempted to free "
                f"{wanted} bytes, but only found {got} bytes eligible to free."
            )
            await self._tell("FreeDiskSpaceFailed", message)
        return freed + got

    async def remove_unused_images(self) -> int:
        """Remove every image that nobody uses, however young; return the bytes that went. For eviction."""
        images, used = await self._look()
        freed = 0
        for image in removable(images, used, self._notes, self._clock(), 0.0):
            freed += await self._remove(image, "disk pressure")
        return freed

    async def sweep_containers(self) -> int:
        """Remove dead containers beyond what is kept; return how many went."""
        settings = self._settings
        dead = dead_to_remove(
            await self._runtime.list_sandboxes(),
            self._clock(),
            min_age_s=settings.container_gc_min_age_s,
            per_container=settings.max_dead_containers_per_container,
            total=settings.max_dead_containers,
        )
        for container in dead:
            await self._runtime.remove_container(container.id)
        return len(dead)

    async def _look(self) -> tuple[list[ImageState], AbstractSet[str]]:
        """Return the images and what is in use of them, and note both."""
        images = await self._runtime.images()
        wanted = await self._wanted()
        used = {*await self._runtime.used_images(), *wanted, *map(full_name, wanted)}
        self._notes = noted(images, used, self._notes, self._clock(), first_look=self._first_look)
        self._first_look = False
        return images, used

    async def _free(self, images: list[ImageState], used: AbstractSet[str], wanted: int) -> int:
        freed = 0
        now_s = self._clock()
        for image in removable(images, used, self._notes, now_s, self._policy.min_age_s):
            if freed >= wanted:
                break
            freed += await self._remove(image, "image disk is too full")
        return freed

    async def _remove(self, image: ImageState, why: str) -> int:
        """Remove one image; return its bytes, 0 if the runtime does not let it go."""
        try:
            await self._runtime.remove_image(image.id)
        except RuntimeUnavailableError as exc:
            await self._tell("ImageGCFailed", f"wanted to remove image {image.id}: {exc}")
            return 0
        logger.info("image removed (%s): %s", why, ", ".join(image.names) or image.id)
        self._notes.pop(image.id, None)
        return image.size_bytes


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
