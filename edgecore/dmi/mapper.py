"""One mapper that has registered: tells it what changed of its devices, until it knows all of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from corekit.backoff import Backoff
from corekit.errors import TransportError
from corekit.logs import RepeatedFault
from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S = 10.0
BACKOFF_S = (0.2, 10.0)
# A mapper that hangs must not hold up the others, nor make edgecore hold a thousand calls.
MAX_CALLS = 16


class MapperLostError(TransportError):
    """A mapper does not answer on its socket."""


class Holdings:
    """What a mapper shall know, or knows: packed messages by "namespace/name", and the devices' uids."""

    def __init__(
        self,
        models: Mapping[str, pb.DeviceModel] | None = None,
        devices: Mapping[str, pb.Device] | None = None,
        uids: Mapping[str, str] | None = None,
    ) -> None:
        self.models, self.devices = dict(models or {}), dict(devices or {})
        self.uids = dict(uids or {})


class MapperLink:
    """Keeps one mapper up to date.

    Shapes:  wanted: returns what of these devices the mapper shall know; of all devices, if asked for None.
    """

    def __init__(self, info: pb.MapperInfo, wanted: Callable[[set[str] | None], Holdings]) -> None:
        self.info, self._wanted = info, wanted
        self._known = Holdings()
        self._dirty: set[str] | None = None  # devices to look at; None: all
        self._changed = asyncio.Event()
        self._changed.set()
        self._lost: MapperLostError | None = None  # of this round of calls
        self.is_lost = False  # whether the mapper did not answer when it was last told something
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._fault = RepeatedFault(logger, f"mapper {info.name}")

    def changed(self, device_ids: set[str]) -> None:
        """Look again at these devices."""
        if self._dirty is not None:
            self._dirty |= device_ids
        self._changed.set()

    def knows(self, holdings: Holdings) -> None:
        """Take what the mapper was told as it registered."""
        self._known = Holdings(holdings.models, holdings.devices, holdings.uids)
        self._dirty = None
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        backoff = Backoff(*BACKOFF_S)
        address = self.info.address.decode(errors="replace")
        while True:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            async with grpc.aio.insecure_channel(f"unix:{address}", options=options) as channel:
                stub = dmi_pb2_grpc.DeviceMapperServiceStub(channel)  # type: ignore[no-untyped-call]
                try:
                    while True:
                        await self._changed.wait()
                        self._changed.clear()
                        await self._tell(stub)
                        backoff.reset()
                        self.is_lost = False
                        self._fault.cleared()
                except MapperLostError as exc:
                    self._fault.failed(exc)
                    self.is_lost, self._dirty = True, None
                    self._changed.set()
            await asyncio.sleep(backoff.next_delay_s())

    async def _tell(self, stub: Any) -> None:
        """Make the mapper know what it shall know: models first, what is gone last."""
        device_ids, self._dirty, self._lost = self._dirty, set(), None
        wanted, known = self._wanted(device_ids), self._known
        asked = known.devices.keys() if device_ids is None else device_ids & known.devices.keys()
        for key, model in wanted.models.items():
            if known.models.get(key) != model:
                is_new = key not in known.models
                request = (pb.CreateDeviceModelRequest if is_new else pb.UpdateDeviceModelRequest)(
                    model=model
                )
                method = stub.CreateDeviceModel if is_new else stub.UpdateDeviceModel
                await self._call(method, request, key)
                known.models[key] = model
        calls = [
            self._put(stub, key, device, wanted.uids[key])
            for key, device in wanted.devices.items()
            if known.devices.get(key) != device or known.uids.get(key) != wanted.uids[key]
        ]
        calls += [self._remove(stub, key) for key in asked - wanted.devices.keys()]
        if not calls:
            return
        # Not a TaskGroup: what has been told stays told, and the loss of the mapper comes out bare.
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        needed = {f"{d.namespace}/{d.spec.deviceModelReference}" for d in known.devices.values()}
        for key in known.models.keys() - needed:
            namespace, _, name = key.partition("/")
            gone = pb.RemoveDeviceModelRequest(modelName=name, modelNamespace=namespace)
            await self._call(stub.RemoveDeviceModel, gone, key)
            known.models.pop(key, None)

    async def _put(self, stub: Any, key: str, device: pb.Device, uid: str) -> None:
        if key in self._known.devices and self._known.uids.get(key) != uid:
            await self._remove(
                stub, key
            )  # DMI has no uids: another device of the name comes after the end of this
        if key in self._known.devices:
            await self._call(stub.UpdateDevice, pb.UpdateDeviceRequest(device=device), key)
        else:
            await self._call(stub.RegisterDevice, pb.RegisterDeviceRequest(device=device), key)
        self._known.devices[key] = device
        self._known.uids[key] = uid

    async def _remove(self, stub: Any, key: str) -> None:
        namespace, _, name = key.partition("/")
        gone = pb.RemoveDeviceRequest(deviceName=name, deviceNamespace=namespace)
        await self._call(stub.RemoveDevice, gone, key)
        self._known.devices.pop(key, None)
        self._known.uids.pop(key, None)

    async def _call(self, method: Any, request: Any, key: str) -> None:
        """Call; what the mapper refuses is said, and not repeated until the object changes."""
        async with self._calls:
            if self._lost is not None:  # one deadline, not one for each device
                raise self._lost
            try:
                await method(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as exc:
                if exc.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    grpc.StatusCode.CANCELLED,
                ):
                    self._lost = MapperLostError(f"{exc.code().name}: {exc.details()}")
                    raise self._lost from exc
                logger.warning("mapper %s refuses %s: %s", self.info.name, key, exc.details())
