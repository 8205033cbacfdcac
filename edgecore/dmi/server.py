"""Component: edgecore's end of DMI on one unix socket, and a link to each mapper that has registered."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import grpc
from google.protobuf.message import DecodeError

from corekit.errors import SETTINGS, ConfigError, StoreError
from devicemodels.dmi import pack_device, pack_model
from devicemodels.objects import Device, DeviceModel
from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc, readings_pb2, readings_pb2_grpc
from devicemodels.twin import Reading
from edgecore import metrics
from edgecore.devicetwin.roster import Roster
from edgecore.devicetwin.twins import NotStoredError
from edgecore.dmi.columns import SeriesNames
from edgecore.dmi.mapper import Holdings, MapperLink
from edgecore.dmi.reports import ERROR, TwinReports
from edgecore.eventbus.payloads import NOT_FOUND, PayloadError
from edgecore.records import Commit, RecordStore

logger = logging.getLogger(__name__)

OWNER = "dmi"
# KubeEdge allows a call a second; here they are bounded by how many run at once, and by the disk.
MAX_CONCURRENT_CALLS = 256
MAX_MAPPERS = 64
MAX_INFO_BYTES = 4096  # of what a mapper says of itself, and what is kept of it
MAX_SOCKET_BYTES = 107  # the kernel's limit
_STOP_GRACE_S = 0.5


class Twins(Protocol):
    """The twins, as far as mappers need them."""

    @property
    def roster(self) -> Roster:
        """Devices and models."""

    def listen(self, listener: Any) -> None:
        """Call `listener` with the ids of devices that changed."""

    def outstanding(self, device_id: str) -> dict[str, str]:
        """Return what a device still has to take."""

    async def transact(self, work: Any) -> Any:
        """Do `work` on a batch."""


class DmiServer:
    """Serves mappers. Which of them there are survives a restart of either side."""

    name = "dmi"

    def __init__(self, socket: str, store: RecordStore, twins: Twins) -> None:
        self._socket, self._store, self._twins = Path(socket), store, twins
        self._reports = TwinReports(twins)
        self._links: dict[str, tuple[MapperLink, asyncio.Task[None] | None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._server: Any = None
        self._packed: dict[str, _Packed] = {}  # by device id
        self._packed_models: dict[str, tuple[DeviceModel, pb.DeviceModel]] = {}
        twins.listen(self._changed)

    async def __aenter__(self) -> Self:
        """Bind the socket, and remember the mappers of before. Raises: ConfigError."""
        if len(os.fsencode(self._socket)) > MAX_SOCKET_BYTES:
            problem = f"{self._socket} is longer than {MAX_SOCKET_BYTES} bytes"
            raise ConfigError(SETTINGS, "dmi.socket", problem)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS, options=[("grpc.so_reuseport", 0)]
        )
        dmi_pb2_grpc.add_DeviceManagerServiceServicer_to_server(_Manager(self), self._server)  # type: ignore[no-untyped-call]
        readings_pb2_grpc.add_ReadingServiceServicer_to_server(  # type: ignore[no-untyped-call]
            _Readings(self._reports), self._server
        )
        before = os.umask(0o177)  # whoever may dial it may say anything of any device
        try:
            await asyncio.to_thread(_make_place, self._socket)
            self._server.add_insecure_port(f"unix:{self._socket}")
        except (OSError, RuntimeError) as exc:
            problem = f"{self._socket} cannot be served: {exc}"
            raise ConfigError(SETTINGS, "dmi.socket", problem) from exc
        finally:
            os.umask(before)
        for name, note in (await self._store.local(OWNER)).items():
            try:
                self._put(pb.MapperInfo.FromString(note))
            except DecodeError as exc:
                logger.error("mapper %s cannot be read, it must register again: %s", name, exc)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._server.stop(_STOP_GRACE_S)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._server.start()
        async with asyncio.TaskGroup() as self._group:
            for link, _ in list(self._links.values()):
                self._put(link.info)
            await asyncio.Event().wait()

    async def register(self, info: pb.MapperInfo, *, told: bool) -> Holdings:
        """Take a mapper, durably; return what it shall know.

        Shapes:  told: whether it learns that from the answer; else it is told device by device.
        Raises:  ValueError: why it cannot be taken.
        """
        _check_info(info)
        local: dict[tuple[str, str], bytes | None] = {(OWNER, info.name): info.SerializeToString()}
        gone = None
        if info.name not in self._links and len(self._links) >= MAX_MAPPERS:
            gone = next((name for name, (link, _) in self._links.items() if link.is_lost), None)
            if gone is None:
                raise ValueError(f"{MAX_MAPPERS} mappers are registered, and no more are served")
            local[OWNER, gone] = None
        await self._store.commit(Commit(local=local))
        if gone is not None:
            self._drop(gone)
        link = self._put(info)
        holdings = self._holdings(info.protocol, None)
        link.knows(holdings if told else Holdings())
        logger.info(
            "mapper %s registered for protocol %s: %d devices",
            info.name,
            info.protocol,
            len(holdings.devices),
        )
        return holdings

    def _put(self, info: pb.MapperInfo) -> MapperLink:
        """Have a link to this mapper, at this address."""
        held = self._links.get(info.name)
        if held is not None and held[1] is not None and held[0].info == info:
            return held[0]
        self._drop(info.name)
        link = MapperLink(info, lambda ids: self._holdings(info.protocol, ids))
        task = (
            self._group.create_task(link.run(), name=f"mapper {info.name}") if self._group else None
        )
        self._links[info.name] = link, task
        return link

    def _drop(self, name: str) -> None:
        _, task = self._links.pop(name, (None, None))
        if task is not None:
            task.cancel()

    def _changed(self, device_ids: set[str]) -> None:
        for device_id in device_ids - self._twins.roster.devices.keys():
            self._packed.pop(device_id, None)
        if not self._packed:  # the last of these devices is gone, and with it the need of models
            self._packed_models.clear()
        for link, _ in self._links.values():
            link.changed(device_ids)

    def _holdings(self, protocol: str, device_ids: set[str] | None) -> Holdings:
        """Return the devices of a protocol, of these or of all, with their models; one without its model waits."""
        roster, found = self._twins.roster, Holdings()
        for device_id in roster.devices if device_ids is None else device_ids:
            device = roster.devices.get(device_id)
            model = roster.model_of(device) if device else None
            if device is None or model is None:
                continue
            named = device.spec.protocol.protocol_name if device.spec.protocol else ""
            if (named or model.spec.protocol) == protocol:
                packed = self._pack(device_id, device, model)
                found.devices[device_id] = packed.device
                found.uids[device_id] = device.metadata.uid
                key = f"{model.metadata.namespace}/{model.metadata.name}"
                found.models[key] = self._pack_model(key, model)
        return found

    def _pack_model(self, key: str, model: DeviceModel) -> pb.DeviceModel:
        held = self._packed_models.get(key)
        if held is None or held[0] is not model:
            held = self._packed_models[key] = model, pack_model(model)
        return held[1]

    def _pack(self, device_id: str, device: Device, model: DeviceModel) -> _Packed:
        """Return a device as its mapper is told; a reading changes its twin, and nothing of that."""
        desired = self._twins.outstanding(device_id)
        held = self._packed.get(device_id)
        if held and held.of[0] is device and held.of[1] is model and held.of[2] == desired:
            return held
        made = _Packed((device, model, desired), pack_device(device, model, desired))
        self._packed[device_id] = made
        return made


class _Packed(NamedTuple):
    """A message, and what it was made of."""

    of: tuple[Device, DeviceModel, dict[str, str]]
    device: pb.Device


class _Manager(dmi_pb2_grpc.DeviceManagerServiceServicer):
    """The calls of v1beta1.DeviceManagerService."""

    def __init__(self, server: DmiServer) -> None:
        self._server = server

    async def MapperRegister(self, request: pb.MapperRegisterRequest, context: Any) -> Any:  # noqa: N802
        """Take a mapper; tell it its devices if it asks."""
        try:
            holdings = await self._server.register(request.mapper, told=request.withData)
        except ValueError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        except StoreError as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"cannot be stored: {exc}")
        if not request.withData:
            return pb.MapperRegisterResponse()
        return pb.MapperRegisterResponse(
            modelList=list(holdings.models.values()), deviceList=list(holdings.devices.values())
        )

    async def ReportDeviceStatus(self, request: pb.ReportDeviceStatusRequest, context: Any) -> Any:  # noqa: N802
        """Take what a device said, and what it has taken."""
        readings = {twin.propertyName: _reading(twin) for twin in request.reportedDevice.twins}
        device_id = f"{request.deviceNamespace}/{request.deviceName}"
        await _answered(context, self._server._reports.status(device_id, readings))
        return pb.ReportDeviceStatusResponse()

    async def ReportDeviceStates(self, request: pb.ReportDeviceStatesRequest, context: Any) -> Any:  # noqa: N802
        """Take the state of a device."""
        device_id = f"{request.deviceNamespace}/{request.deviceName}"
        await _answered(context, self._server._reports.state(device_id, request.state))
        return pb.ReportDeviceStatesResponse()


class _Readings(readings_pb2_grpc.ReadingServiceServicer):
    """Values at rate."""

    def __init__(self, reports: TwinReports) -> None:
        self._reports = reports

    async def Stream(self, batches: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer each batch once its newest values are stored."""
        names = SeriesNames()
        async for batch in batches:
            try:
                taken = await self._reports.readings(names.columns(batch))
                metrics.overtaken.inc(batch.overtaken)
            except ValueError as exc:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
            except NotStoredError as exc:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
            yield readings_pb2.BatchTaken(
                taken=taken.taken, refused=taken.refused, reason=taken.reason
            )


async def _answered(context: Any, work: Any) -> None:
    try:
        await work
    except PayloadError as exc:
        missing = exc.code == NOT_FOUND
        status = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT
        await context.abort(status, exc.reason)
    except NotStoredError as exc:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))


def _reading(twin: pb.Twin) -> Reading:
    observed, refused = None, None
    if twin.HasField("observedDesired"):
        observed = twin.observedDesired.value
        refused = twin.observedDesired.metadata.get(ERROR) or None
    reported = twin.reported.value if twin.HasField("reported") else None
    return Reading(reported, observed if refused is None else None, refused)


def _check_info(info: pb.MapperInfo) -> None:
    """Refuse a mapper that could not be kept or dialled. Raises: ValueError."""
    for what in ("name", "protocol", "address"):
        if not getattr(info, what):
            raise ValueError(f"mapper.{what} is empty")
    if (size := info.ByteSize()) > MAX_INFO_BYTES:
        raise ValueError(f"mapper: {size} bytes are more than the limit of {MAX_INFO_BYTES}")
    if len(info.address) > MAX_SOCKET_BYTES or b"\0" in info.address:
        raise ValueError(
            f"mapper.address is no path of a socket of at most {MAX_SOCKET_BYTES} bytes"
        )


def _make_place(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # of a run that was killed
