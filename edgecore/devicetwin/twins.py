"""The component that keeps the node's twins: durable first, said second, on MQTT and to the cloud."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self, TypeVar

import msgspec
from msgspec import structs

from corekit.backoff import Backoff
from corekit.errors import StoreError
from corekit.logs import RepeatedFault
from devicemodels.objects import Device, DeviceModel
from devicemodels.twin import (
    Change,
    Twin,
    decode_twin,
    encode_twin,
    status_twins,
    take_desired,
    unsynced,
)
from edgecore.devicetwin.announcer import Announcer, Bus
from edgecore.devicetwin.batch import Batch, last_online
from edgecore.devicetwin.pacing import Pace
from edgecore.devicetwin.roster import KINDS, Roster
from edgecore.devicetwin.streaming import SampleSink, Streamer
from edgecore.devicetwin.timing import Timing
from edgecore.eventbus.inbox import Inbound
from edgecore.records import ChangeFeed, Commit, RecordStore, Report, Uplink
from synccore.messages import Lane, ObjectKey

logger = logging.getLogger(__name__)

OWNER = "devicetwin"
# One commit carries what came in meanwhile: a flash card stands 20 writes a second, not 3,000.
BATCH_WINDOW_S = 0.05
# What one batch may hold up the event loop for: about 20 ms. By bytes too: of the compact form, 512 messages would be
# half a million values, with their objects 20 MiB.
BATCH_LIMIT, BATCH_BYTES = 512, 256 << 10
# How often deadlines are looked at: a rejected or late write shows within a second.
TICK_S = 0.25


T = TypeVar("T")


class NotStoredError(StoreError):
    """What was reported could not be stored now; the message says why."""

    retryable = True


class DeviceTwin:
    """Serve the twins of all devices that the store holds, with or without a cloud, with or without a broker."""

    name = "devicetwin"

    def __init__(
        self,
        store: RecordStore,
        bus: Bus,
        node_name: str,
        *,
        clock: Callable[[], float] = time.time,
        uplink: Uplink | None = None,
        samples: SampleSink | None = None,
    ) -> None:
        if uplink is not None:
            uplink.on_report_all(self._report_again)
        self._uplink = uplink
        self._all_wanted = asyncio.Event()
        self._store, self._bus, self._clock = store, bus, clock
        self._roster = Roster(node_name)
        self._twins: dict[str, Twin] = {}
        self._announcer = Announcer(bus, self._roster, self._twins, self._now_ms)
        self._timing, self._pace = Timing(self._roster, self._twins), Pace()
        self._streamer = Streamer(samples)
        self._feed: ChangeFeed | None = None
        self._lock = asyncio.Lock()  # one commit at a time: a twin never goes back to an older one
        self._committed_s = 0.0  # when the newest commit began, whoever made it
        self._backoff = Backoff(0.1, 5.0)
        self._fault = RepeatedFault(logger, "twins cannot be stored")
        self._said: dict[str, set[str]] = {}  # refusals already logged, by device
        self._listeners: list[Callable[[set[str]], None]] = []

    @property
    def roster(self) -> Roster:
        """The devices and models of this node, to be read."""
        return self._roster

    def listen(self, listener: Callable[[set[str]], None]) -> None:
        """Call `listener` with the ids of devices whose object, model or twin changed, once that is stored."""
        self._listeners.append(listener)

    def outstanding(self, device_id: str) -> dict[str, str]:
        """Return the values that a device still has to take, by property."""
        device, twin = self._roster.devices.get(device_id), self._twins.get(device_id)
        model = self._roster.model_of(device) if device else None
        return unsynced(twin, model, device) if twin and model else {}

    async def transact(self, work: Callable[[Batch], T]) -> T:
        """Do `work` on a batch, and return what it returned once that is stored and said.

        Raises:  what `work` raises: then nothing has happened. NotStoredError.
        """
        async with self._lock:
            batch = self._batch()
            result = work(batch)
            await self._settle(batch)
        if batch.problem:
            raise NotStoredError(batch.problem)
        return result

    async def __aenter__(self) -> Self:
        """Read devices, models and twins from the store."""
        self._feed = self._store.feed(*KINDS)
        for kind in reversed(KINDS):  # models first
            for stored in await self._store.list(kind):
                self._roster.put(stored)
        for device_id, note in (await self._store.local(OWNER)).items():
            try:
                self._twins[device_id] = decode_twin(note)
            except msgspec.DecodeError as exc:
                # What the device reports next, and the Device object, make it anew.
                logger.error("twin of %s cannot be read and starts empty: %s", device_id, exc)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing: everything said is already stored."""

    async def run(self) -> None:
        """Serve until cancelled."""
        # A kill between the store's commit and ours leaves desired values that were never taken.
        await self._converge({*self._roster.devices, *self._twins}, joined=())
        self._timing.begin(asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_store())
            group.create_task(self._serve_bus())
            group.create_task(self._announcer.repay())
            group.create_task(self._keep_time())
            group.create_task(self._report_all())

    def _report_again(self) -> None:
        self._all_wanted.set()

    async def _report_all(self) -> None:
        """Report every device again whenever the cloud, or a lost outbox, makes it necessary."""
        while True:
            await self._all_wanted.wait()
            self._all_wanted.clear()
            try:
                async with self._lock:
                    reports = [self._report_of(d) for d in self._twins if d in self._roster.devices]
                    await self._store.commit(Commit(reports=reports))
                self._stored()
            except StoreError as exc:
                self._fault.failed(exc)
                self._all_wanted.set()
                await asyncio.sleep(self._backoff.next_delay_s())

    def _report_of(self, device_id: str) -> Report:
        device, twin = self._roster.devices[device_id], self._twins[device_id]
        return self._report(device_id, twin.uid, status_body(twin, self._roster.model_of(device)))

    async def _follow_store(self) -> None:
        assert self._feed is not None
        while True:
            touched: set[str] = set()
            before = set(self._roster.devices)
            for key in await self._feed.changed():
                stored = await self._store.get(key)
                touched |= self._roster.put(stored) if stored else self._roster.drop(key)
                if fault := self._roster.broken.get(key):
                    logger.warning("%s cannot be used: %s", key, fault)
            await self._converge(touched, joined=self._roster.devices.keys() - before)

    async def _converge(self, device_ids: Iterable[str], *, joined: Iterable[str]) -> None:
        """Make the twins of these devices follow their Device objects; retry until it is durable."""
        while True:
            async with self._lock:
                try:
                    await self._follow(device_ids, joined)
                except StoreError as exc:
                    self._fault.failed(exc)
                else:
                    return
            # Without the lock: devices are still answered, if only that nothing can be stored.
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _follow(self, device_ids: Iterable[str], joined: Iterable[str]) -> None:
        twins, gone, changes = self._plan(device_ids)
        commit = self._commit_of(twins, gone)
        if commit.local:
            await self._store.commit(commit)
            self._stored()
        renewed = [d for d in twins if d in self._twins and self._held(d, twins[d]) is None]
        for device_id in (*gone, *renewed):  # of one made anew nothing of the old one is its own
            self._forget(device_id)
        self._twins.update(twins)
        self._announcer.members(joined, gone)
        for device_id in twins:
            self._timing.watch(device_id)
            self._announcer.changed(device_id, changes.get(device_id, {}), "")
        self._told({*device_ids, *twins, *gone})

    def _told(self, device_ids: Iterable[str]) -> None:
        if touched := set(device_ids):
            for listener in self._listeners:
                listener(touched)

    def _plan(
        self, device_ids: Iterable[str]
    ) -> tuple[dict[str, Twin], list[str], dict[str, dict[str, Change]]]:
        """Return new twins, ids of twins to drop, and changes by device, from the objects as they are."""
        twins: dict[str, Twin] = {}
        gone: list[str] = []
        changes: dict[str, dict[str, Change]] = {}
        for device_id in sorted(device_ids):
            device = self._roster.devices.get(device_id)
            if device is None:
                gone += [device_id] if device_id in self._twins else []
                continue
            twin = Twin(device.metadata.uid)
            held = self._held(device_id, twin)
            twin = held or twin
            if (model := self._roster.model_of(device)) is not None:
                twin, changes[device_id] = self._take(twin, device, model)
            if twin != held:
                twins[device_id] = twin
        return twins, gone, changes

    def _take(
        self, twin: Twin, device: Device, model: DeviceModel
    ) -> tuple[Twin, dict[str, Change]]:
        merged = take_desired(twin, device, model, self._now_ms())
        said = self._said.setdefault(device.id, set())
        refused = {str(exc) for exc in merged.refused}
        for problem in sorted(refused - said):
            logger.warning("desired value not taken: %s", problem)
        self._said[device.id] = refused
        return merged.twin, merged.touched

    async def _serve_bus(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrived = await self._bus.receive(BATCH_LIMIT, BATCH_BYTES)
            async with self._lock:
                if arrived.connected:
                    self._announcer.all()
                committed = await self._handle(arrived.messages)
            # A full batch means more is waiting: the window would make it 10,000 messages a second at most.
            if committed and not _is_full(arrived.messages):
                await asyncio.sleep(max(0.0, self._committed_s + BATCH_WINDOW_S - loop.time()))

    async def _handle(self, messages: list[Inbound]) -> bool:
        """Work a batch through; return whether it took a commit."""
        batch = self._batch()
        for message in messages:
            batch.handle(message.topic, message.payload)
        committed = await self._settle(batch)
        for message in messages:  # refused ones too: the sender has been told
            message.acknowledge()
        return committed

    def _batch(self) -> Batch:
        linked = self._uplink is None or self._uplink.connected
        return Batch(self._roster, self._twins, self._now_ms(), linked=linked)

    async def _settle(self, batch: Batch) -> bool:
        """Store what a batch came to, then say it; return whether it took a commit."""
        batch.fold()
        commit = self._commit_of(batch.twins, ())
        try:
            if commit.local:
                self._committed_s = asyncio.get_running_loop().time()
                await self._store.commit(commit)
                self._stored()
        except StoreError as exc:
            self._fault.failed(exc)
            batch.problem = f"cannot be stored: {exc}"
            for answer in batch.failed(batch.problem):
                self._bus.publish(answer.topic, answer.payload)
            return False
        back = [d for d in batch.heard if self._was_away(d)]
        self._twins.update(batch.twins)
        self._timing.note(batch, asyncio.get_running_loop().time())
        self._streamer.put(batch.streamed)
        if unseen := batch.streamed.heard(batch.heard, batch.now_ms):
            self._streamer.put_presence(unseen, batch.now_ms)
        for answer in batch.answers:
            self._bus.publish(answer.topic, answer.payload)
        for device_id, changes in batch.changes.items():
            self._announcer.changed(device_id, changes, batch.event_ids.get(device_id, ""))
        for device_id in back:
            self._announcer.returned(device_id)
        self._told(batch.changes)
        return bool(commit.local)

    def _was_away(self, device_id: str) -> bool:
        held = self._twins.get(device_id)
        return held is not None and held.state == "offline"

    async def _keep_time(self) -> None:
        """Expire writes, notice silence, take values whose interval is over, and report what was held back."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            linked = self._uplink is None or self._uplink.connected
            async with self._lock:
                batch = self._batch()
                self._timing.due(batch, loop.time(), self._now_ms(), linked=linked)
                held_back = {d: self._twins[d] for d in self._timing.owed if d in self._twins}
                batch.twins = held_back | batch.twins
                if batch.twins:
                    await self._settle(batch)

    def _held(self, device_id: str, twin: Twin) -> Twin | None:
        """Return the twin that is in force, if it is the same device's and not of one that had its name."""
        held = self._twins.get(device_id)
        return held if held is not None and held.uid == twin.uid else None

    def _commit_of(self, twins: dict[str, Twin], gone: Iterable[str]) -> Commit:
        """Return what to store; `twins` get their mark if the cloud is not told at once."""
        local: dict[tuple[str, str], bytes | None] = {(OWNER, d): None for d in gone}
        reports = []
        for device_id, twin in twins.items():
            held = self._held(device_id, twin)
            if twin == held and not twin.owed:
                continue
            model = self._roster.model_of(self._roster.devices[device_id])
            body = status_body(twin, model)
            news = twin.owed or body != status_body(held or Twin(twin.uid), model)
            if news and self._may_report(device_id, held, twin):
                twin = structs.replace(twin, owed=False)
                reports.append(self._report(device_id, twin.uid, body))
            elif news:
                twin = structs.replace(twin, owed=True)
            twins[device_id] = twin
            if twin != held:
                local[OWNER, device_id] = encode_twin(twin)
        return Commit(reports=reports, local=local)

    def _may_report(self, device_id: str, held: Twin | None, twin: Twin) -> bool:
        """Tell whether the cloud is told now: of what became of a write, or of its state, always."""
        allowed = self._pace.allow(device_id, asyncio.get_running_loop().time())
        if allowed or held is None or held.state != twin.state:
            return True
        before = held.properties
        return any(
            held.phase != before[name].phase if name in before else bool(held.phase)
            for name, held in twin.properties.items()
        )

    def _report(self, device_id: str, uid: str, body: bytes) -> Report:
        namespace, _, name = device_id.partition("/")
        return Report(ObjectKey("Device", namespace, name), uid, body, Lane.TWINS)

    def _forget(self, device_id: str) -> None:
        self._twins.pop(device_id, None)
        self._said.pop(device_id, None)
        self._announcer.forget(device_id)
        self._timing.forget(device_id)
        self._pace.forget(device_id)
        self._streamer.forget(device_id)

    def _stored(self) -> None:
        self._backoff.reset()
        self._fault.cleared()

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _is_full(messages: Sequence[Inbound]) -> bool:
    return len(messages) >= BATCH_LIMIT or sum(len(m.payload) for m in messages) >= BATCH_BYTES


def status_body(twin: Twin, model: DeviceModel | None) -> bytes:
    """Return what the cloud merges into the Device: only the fields that the edge owns."""
    status: dict[str, object] = {}
    if model is not None:
        status["twins"] = status_twins(twin, model)
        status["twinsGeneration"] = twin.generation
    if twin.state:
        status["state"] = twin.state
    if online := last_online(twin):
        status["lastOnlineTime"] = online
    return msgspec.json.encode({"status": status})
