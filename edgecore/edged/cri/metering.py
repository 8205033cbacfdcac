"""The measuring half of the CRI runtime: usage of containers, the image file system, health, log files."""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec

from edgecore.edged.cri.connection import CriConnection, CriRefusedError
from edgecore.edged.cri.pb import api_pb2 as pb
from edgecore.edged.runtime import RuntimeUnavailableError
from edgecore.edged.usage import (
    ContainerUsage,
    ImageFilesystem,
    RuntimeCondition,
    RuntimeHandler,
    RuntimeHealth,
)

# Asked by whoever waits for `kubectl top` or by a loop that comes round again: no point in waiting longer.
STATS_TIMEOUT_S = 30.0
# An image may be hundreds of thousands of files on a slow card.
REMOVE_IMAGE_TIMEOUT_S = 300.0


_PEER = struct.Struct("3i")  # pid, uid and gid


class _Info(msgspec.Struct):
    pid: int = 0


class _Config(msgspec.Struct):
    sandbox_image: str = msgspec.field(default="", name="sandboxImage")


class CriMeter:
    """Calls that measure and sweep, on the connection of the runtime; remembers the pid of each container."""

    def __init__(self, connection: CriConnection, labels: dict[str, str]) -> None:
        self._cri, self._labels = connection, labels
        self._pids: dict[str, int] = {}

    async def usages(self) -> list[ContainerUsage]:
        """Return the use of every running container with our labels."""
        request = pb.ListContainerStatsRequest(
            filter=pb.ContainerStatsFilter(label_selector=self._labels)
        )
        answer = await self._call("ListContainerStats", request, pb.ListContainerStatsResponse)
        ids = {stats.attributes.id for stats in answer.stats}
        for gone in self._pids.keys() - ids:
            del self._pids[gone]
        # Stats of an ended container have no CPU time; it uses nothing.
        running = [stats for stats in answer.stats if stats.HasField("cpu") and stats.cpu.timestamp]
        return [_usage(stats, await self._pid(stats.attributes.id)) for stats in running]

    async def image_filesystem(self) -> ImageFilesystem:
        """Return the first image file system; runtimes have one."""
        answer = await self._call("ImageFsInfo", pb.ImageFsInfoRequest(), pb.ImageFsInfoResponse)
        if not answer.image_filesystems:
            return ImageFilesystem()
        found = answer.image_filesystems[0]
        return ImageFilesystem(
            found.fs_id.mountpoint, found.used_bytes.value, found.inodes_used.value
        )

    async def used_images(self) -> set[str]:
        """Return what every container was made from, other agents' too, and the sandbox image."""
        listing = await self._call(
            "ListContainers", pb.ListContainersRequest(), pb.ListContainersResponse
        )
        used = {name for c in listing.containers for name in (c.image.image, c.image_ref)}
        request = pb.StatusRequest(verbose=True)
        status = await self._call("Status", request, pb.StatusResponse)
        return {*used, _sandbox_image_in(status.info.get("config", ""))} - {""}

    async def remove_image(self, image_id: str) -> None:
        """Remove an image, all its names with it."""
        request = pb.RemoveImageRequest(image=pb.ImageSpec(image=image_id))
        await self._call(
            "RemoveImage", request, pb.RemoveImageResponse, timeout_s=REMOVE_IMAGE_TIMEOUT_S
        )

    async def reopen_log(self, container_id: str) -> None:
        """Have the runtime close and open the container's log file."""
        request = pb.ReopenContainerLogRequest(container_id=container_id)
        await self._call("ReopenContainerLog", request, pb.ReopenContainerLogResponse)

    def daemon_pid(self) -> int:
        """Return the process that listens on the runtime's socket, 0 if nobody does; blocks for a local connect."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(1.0)
            try:
                asking.connect(self._cri.socket_path)
            except OSError:
                return 0
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return int(_PEER.unpack(peer)[0])

    async def health(self) -> RuntimeHealth:
        """Return the runtime's conditions and handlers."""
        answer = await self._call("Status", pb.StatusRequest(), pb.StatusResponse, timeout_s=10.0)
        conditions = [
            RuntimeCondition(c.type, c.status, c.reason, c.message)
            for c in answer.status.conditions
        ]
        handlers = [
            RuntimeHandler(
                h.name, h.features.recursive_read_only_mounts, h.features.user_namespaces
            )
            for h in answer.runtime_handlers
        ]
        return RuntimeHealth(conditions, handlers)

    async def _pid(self, container_id: str) -> int:
        """Return the container's first process, 0 if the runtime does not tell; asked once."""
        if container_id not in self._pids:
            request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
            try:
                answer = await self._cri.call(
                    "ContainerStatus", request, pb.ContainerStatusResponse
                )
            except CriRefusedError:  # it has just ended
                return 0
            self._pids[container_id] = _pid_in(answer.info.get("info", ""))
        return self._pids[container_id]

    async def _call(
        self, method: str, request: object, answer: type[Any], *, timeout_s: float = STATS_TIMEOUT_S
    ) -> Any:
        try:
            return await self._cri.call(method, request, answer, timeout_s=timeout_s)
        except CriRefusedError as exc:
            if exc.not_found:
                return answer()
            raise RuntimeUnavailableError(str(exc)) from exc


def _sandbox_image_in(text: str) -> str:
    """Return the image of sandboxes out of containerd's configuration; CRI-O pins its own."""
    try:
        return msgspec.json.decode(text, type=_Config).sandbox_image
    except msgspec.DecodeError:
        return ""


def _usage(stats: pb.ContainerStats, pid: int) -> ContainerUsage:
    memory, layer = stats.memory, stats.writable_layer
    measured = stats.HasField("writable_layer") and layer.HasField("used_bytes")
    return ContainerUsage(
        id=stats.attributes.id,
        pid=pid,
        time_s=stats.cpu.timestamp / 1e9,
        cpu_ns=stats.cpu.usage_core_nano_seconds.value,
        memory_working_set_bytes=memory.working_set_bytes.value,
        memory_usage_bytes=memory.usage_bytes.value,
        memory_rss_bytes=memory.rss_bytes.value,
        layer_bytes=layer.used_bytes.value if measured else None,
        layer_inodes=layer.inodes_used.value if measured else None,
    )


def _pid_in(text: str) -> int:
    try:
        return msgspec.json.decode(text, type=_Info).pid
    except msgspec.DecodeError:  # another runtime's shape
        return 0
