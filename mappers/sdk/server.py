"""The mapper's own DMI service: edgecore tells it which devices and models it has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc

from corekit.errors import SETTINGS, ConfigError
from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc
from mappers.sdk.fleet import Fleet

MAX_CONCURRENT_CALLS = 64  # edgecore makes 16 at a time


class MapperService(dmi_pb2_grpc.DeviceMapperServiceServicer):
    """Takes what edgecore says into the fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def RegisterDevice(self, request: pb.RegisterDeviceRequest, _context: Any) -> Any:  # noqa: N802
        """Add a device."""
        self._fleet.put(request.device)
        return pb.RegisterDeviceResponse(
            deviceName=request.device.name, deviceNamespace=request.device.namespace
        )

    async def UpdateDevice(self, request: pb.UpdateDeviceRequest, _context: Any) -> Any:  # noqa: N802
        """Change a device."""
        self._fleet.put(request.device)
        return pb.UpdateDeviceResponse()

    async def RemoveDevice(self, request: pb.RemoveDeviceRequest, _context: Any) -> Any:  # noqa: N802
        """End a device."""
        self._fleet.remove(f"{request.deviceNamespace}/{request.deviceName}")
        return pb.RemoveDeviceResponse()

    async def CreateDeviceModel(self, request: pb.CreateDeviceModelRequest, _context: Any) -> Any:  # noqa: N802
        """Add a model."""
        self._fleet.put_model(request.model)
        return pb.CreateDeviceModelResponse(
            deviceModelName=request.model.name, deviceModelNamespace=request.model.namespace
        )

    async def UpdateDeviceModel(self, request: pb.UpdateDeviceModelRequest, _context: Any) -> Any:  # noqa: N802
        """Change a model."""
        self._fleet.put_model(request.model)
        return pb.UpdateDeviceModelResponse()

    async def RemoveDeviceModel(self, request: pb.RemoveDeviceModelRequest, _context: Any) -> Any:  # noqa: N802
        """Forget a model."""
        self._fleet.remove_model(f"{request.modelNamespace}/{request.modelName}")
        return pb.RemoveDeviceModelResponse()

    async def GetDevice(self, request: pb.GetDeviceRequest, context: Any) -> Any:  # noqa: N802
        """Return a device as it was told."""
        device_id = f"{request.deviceNamespace}/{request.deviceName}"
        device = self._fleet.devices.get(device_id)
        if device is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"device {device_id} is not here")
        return pb.GetDeviceResponse(device=device)


async def serve_mapper(fleet: Fleet, socket: str) -> Any:
    """Return the started server on a unix socket that only this user may dial. Raises: ConfigError."""
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS, options=[("grpc.so_reuseport", 0)]
    )
    dmi_pb2_grpc.add_DeviceMapperServiceServicer_to_server(MapperService(fleet), server)  # type: ignore[no-untyped-call]
    before = os.umask(0o177)
    try:
        await asyncio.to_thread(_make_place, Path(socket))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    except (OSError, RuntimeError) as exc:
        raise ConfigError(SETTINGS, "socket", f"cannot listen on {socket}: {exc}") from exc
    finally:
        os.umask(before)
    return server


def _make_place(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of a run that was killed
