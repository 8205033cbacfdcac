"""The component that keeps a DeviceStatus beside each Device, as KubeEdge has it: the same values, for its programs.

It follows from the Device object alone, so it holds no report up, needs no memory of its own, and mends what somebody
else wrote or deleted. It has less than the Device's status: no phases, no conditions.
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import blake2b
from typing import Any, Protocol, Self

import msgspec

from cloudcore import metrics
from cloudcore.devicecontroller.rate import WriteRate
from cloudcore.devicecontroller.reports import Verdict, after_error
from cloudcore.devicecontroller.seams import Cache, Follower
from cloudcore.devicecontroller.statuswriter import FIELD_MANAGER
from cloudcore.kube.client import MERGE_PATCH
from cloudcore.kube.errors import KubeConflictError, KubeNotFoundError
from cloudcore.kube.resources import DEVICE_STATUSES, DEVICES, KubeObject
from cloudcore.settings import DeviceSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from devicemodels.objects import API_VERSION
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

# Of a new cluster's thousands of devices, or of all after an upgrade: in the background, beside the statuses.
MAX_CONCURRENT_WRITES = 4
BACKOFF_S = (0.5, 30.0)


class MirrorApi(Protocol):
    """The requests that are made. Both raise KubeApiError."""

    async def post(self, path: str, body: bytes) -> bytes:
        """Create an object."""

    async def patch(self, path: str, body: bytes, *, content_type: str = ...) -> bytes:
        """Patch an object."""


class _Twin(msgspec.Struct, rename="camel", omit_defaults=True):
    property_name: str
    reported: dict[str, Any] | None = None
    observed_desired: dict[str, Any] | None = None


class _Status(msgspec.Struct, rename="camel"):
    twins: tuple[_Twin, ...] = ()
    state: str = ""
    last_online_time: str = ""


class _Device(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Owner(msgspec.Struct):
    uid: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    owner_references: tuple[_Owner, ...] = ()


class _Mirror(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    status: _Status = msgspec.field(default_factory=_Status)


_devices = msgspec.json.Decoder(_Device)
_mirrors = msgspec.json.Decoder(_Mirror)


def fingerprint(body: bytes) -> bytes:
    """Return what is kept of a DeviceStatus: a digest of its owners and of what it says."""
    try:
        mirror = _mirrors.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""
    return _digest(mirror.metadata.owner_references, mirror.status)


class StatusMirror:
    """Writes DeviceStatus objects, each at most once per interval.

    Shapes:  mirrors: an informer shrunk by `fingerprint`.
    """

    name = "device-statuses"

    def __init__(
        self, api: MirrorApi, settings: DeviceSettings, *, devices: Cache, mirrors: Cache
    ) -> None:
        self._api, self._devices, self._mirrors = api, devices, mirrors
        self._interval_s = settings.status_interval_s
        self._dirty: dict[ObjectKey, None] = {}  # Devices, in the order they became so
        # Looked at within the interval, and whether there is news of it since.
        self._resting: dict[ObjectKey, bool] = {}
        self._wake = asyncio.Event()
        self._rate = WriteRate()
        self._fault = RepeatedFault(logger, "DeviceStatus objects cannot be written")

    async def __aenter__(self) -> Self:
        """Follow the caches."""
        self._devices.subscribe(Follower(self._mark, self._gone))
        # One that is changed or deleted by somebody else is mended.
        self._mirrors.subscribe(Follower(self._mark, self._mark))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing."""

    async def run(self) -> None:
        """Write until cancelled."""
        await self._devices.wait_synced()
        await self._mirrors.wait_synced()
        async with asyncio.TaskGroup() as group:
            for number in range(MAX_CONCURRENT_WRITES):
                group.create_task(self._work(), name=f"{self.name} {number}")

    async def _work(self) -> None:
        backoff, loop = Backoff(*BACKOFF_S), asyncio.get_running_loop()
        while True:
            key = await self._next()
            delay_s = self._interval_s
            try:
                await self._settle(key)
            except (KubeApiError, ValueError) as exc:
                if isinstance(exc, KubeApiError) and after_error(exc) is not Verdict.DROP:
                    self._resting[key] = True
                    delay_s = max(exc.retry_after_s or 0.0, backoff.next_delay_s())
                self._fault.failed(exc)
            else:
                backoff.reset()
                self._fault.cleared()
            loop.call_later(delay_s, self._rested, key)

    async def _next(self) -> ObjectKey:
        while not self._dirty:
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._dirty))
        del self._dirty[key]
        self._resting[key] = False
        return key

    async def _settle(self, key: ObjectKey) -> None:
        device = self._devices.get(key)
        if device is None or device.deleting:
            return
        mirror_key = key._replace(kind=DEVICE_STATUSES.kind)
        status = _status_of(device.body)
        held = self._mirrors.get(mirror_key)
        if held is not None and held.body == _digest((_Owner(device.uid),), status):
            return
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rate.delay_s(loop.time()))
        begun_s = loop.time()
        try:
            await self._write(mirror_key, device, status, exists=held is not None)
        except KubeApiError as exc:
            if exc.retryable:
                self._rate.refused(loop.time())
            raise
        self._rate.answered(loop.time() - begun_s, loop.time())
        metrics.device_status_writes.inc()

    async def _write(
        self, key: ObjectKey, device: KubeObject, status: _Status, *, exists: bool
    ) -> None:
        metadata = {"ownerReferences": [_owner_reference(device)]}
        said = {"metadata": metadata, "status": status}
        manager = f"?fieldManager={FIELD_MANAGER}"
        path = DEVICE_STATUSES.path(key) + manager
        if exists:
            try:
                await self._api.patch(path, msgspec.json.encode(said), content_type=MERGE_PATCH)
            except KubeNotFoundError:  # deleted, and not heard of yet
                pass
            else:
                return
        whole = {"apiVersion": API_VERSION, "kind": key.kind, "spec": {}, "status": status}
        named = {"name": key.name, "namespace": key.namespace, **metadata}
        body = msgspec.json.encode({**whole, "metadata": named})
        try:
            await self._api.post(DEVICE_STATUSES.within(key.namespace) + manager, body)
        except KubeConflictError:  # made, and not heard of yet
            await self._api.patch(path, msgspec.json.encode(said), content_type=MERGE_PATCH)

    def _mark(self, about: KubeObject | ObjectKey) -> None:
        key = (about if isinstance(about, ObjectKey) else about.key)._replace(kind=DEVICES.kind)
        if key in self._resting:
            self._resting[key] = True
        else:
            self._dirty[key] = None
            self._wake.set()

    def _gone(self, key: ObjectKey) -> None:
        self._dirty.pop(key, None)  # its owner's end is the DeviceStatus' end

    def _rested(self, key: ObjectKey) -> None:
        if self._resting.pop(key):
            self._mark(key)


def _status_of(body: bytes) -> _Status:
    try:
        return _devices.decode(body).status
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Status()  # somebody else wrote into the status; the next report mends it


def _digest(owners: tuple[_Owner, ...], status: _Status) -> bytes:
    said = msgspec.json.encode((owners, status), order="sorted")
    return blake2b(said, digest_size=16).digest()


def _owner_reference(device: KubeObject) -> dict[str, object]:
    named = {"apiVersion": API_VERSION, "kind": device.key.kind, "name": device.key.name}
    return {**named, "uid": device.uid, "controller": True}
