"""The component `edged`: keeps one worker per pod uid, and tells them when to look.

Workers are woken by changed records, by a relist of the runtime each second (one call for all pods), and by
their own timers. What runs at start is adopted by pod uid; what nobody asked for any more is ended.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import msgspec

from corekit.errors import SETTINGS, ConfigError, StoreError
from corekit.logs import RepeatedFault
from edgecore.edged.admission.book import AdmissionBook
from edgecore.edged.admission.demands import Demands
from edgecore.edged.admission.preemption import PREEMPTED_MESSAGE, PREEMPTED_REASON
from edgecore.edged.images.puller import CredentialSource, ImagePuller
from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.node import machineinfo
from edgecore.edged.pods.events import EventRecorder
from edgecore.edged.pods.mirrors import Mirrors
from edgecore.edged.pods.nodefacts import NodeFactsKeeper
from edgecore.edged.pods.provision import Provision
from edgecore.edged.pods.site import OWNER, RuntimeId, Site
from edgecore.edged.pods.staticpods import StaticFolder, StaticTurns
from edgecore.edged.pods.worker import PodWorker
from edgecore.edged.probes.prober import Prober
from edgecore.edged.runtime import ContainerRuntime, RuntimeUnavailableError, SandboxState
from edgecore.edged.thresholds import Observation
from edgecore.edged.volumes.claims import CLAIM, VOLUME
from edgecore.edged.volumes.tokens import TokenManager
from edgecore.records import Commit, RecordStore, StoredObject, Uplink
from edgecore.settings import PodSettings
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

STATIC_SCAN_S = 5.0  # a stat of each file; kubelet looks every 20 s, and is woken by the kernel
EVENTS_AGAIN_S = 60.0  # a runtime that tells no events may be replaced by one that does
RELISTS_SKIPPED = 10  # with events only each tenth relist is made: for those that were lost
RELIST_S = 1.0  # as kubelet's PLEG
# A database that was lost is filled again by the cloud; until then what runs is left alone.
ORPHAN_PATIENCE_S = 30.0
_KNOWN_DATABASE = "_known"  # key of the note that this database has been in use before


class Edged:
    """Runs the pods that the store holds. Never waits for the network: it starts from the store alone.

    Shapes:  address: returns the node's InternalIP. allocatable: resource name -> what pods may use; the
             machine's if not given. uplink: with it, a fresh database ends nothing before the cloud was heard.
    """

    name = "edged"

    def __init__(
        self,
        settings: PodSettings,
        *,
        node_name: str,
        store: RecordStore,
        runtime: ContainerRuntime,
        clock: Callable[[], float] = time.time,
        address: Callable[[], str] = lambda: "",
        allocatable: Mapping[str, Decimal] | None = None,
        uplink: Uplink | None = None,
        node_labels: Mapping[str, str] | None = None,
        providers: CredentialSource | None = None,
    ) -> None:
        self._store, self._runtime, self._clock, self._uplink = store, runtime, clock, uplink
        self.admission = AdmissionBook(node_name, self._make_room)
        self._site = Site(
            node_name=node_name,
            settings=settings,
            store=store,
            runtime=runtime,
            recorder=EventRecorder(node_name, clock),
            clock=clock,
            address=address,
            runtime_id=RuntimeId(runtime),
            provision=Provision(
                settings,
                store,
                runtime,
                machineinfo.memory_capacity_bytes(),
                tuple(allocatable or ()),
            ),
            allocatable=allocatable or {},
            prober=Prober(runtime),
            admission=self.admission,
            puller=ImagePuller(
                runtime,
                1 if settings.serialize_image_pulls else settings.max_parallel_image_pulls,
                providers=providers,
            ),
            tokens=TokenManager(store, uplink, clock),
            node_facts=NodeFactsKeeper(store, uplink, self.admission, clock),
            node_labels=node_labels or {},
        )
        self._linked = self._evented = False
        self._static = StaticFolder(Path(settings.static_dir), node_name)
        self._mirrors_changed = asyncio.Event()
        self._turns = StaticTurns()
        self._mirrors = Mirrors(store, lambda: self._turns.here, self._mirror, clock)
        self._workers: dict[str, PodWorker] = {}
        self._by_name: dict[ObjectKey, str] = {}
        self._memories: dict[str, bytes] = {}
        self._seen: dict[str, list[SandboxState]] = {}
        self._connected_since_s: float | None = None
        self._known_database = self._files_checked = False
        self._fault = RepeatedFault(logger, "container runtime")

    async def __aenter__(self) -> Self:
        if self._uplink is not None:
            self._uplink.on_report_all(self._report_again)
        self._feed = self._store.feed("Pod", "ConfigMap", "Secret", CLAIM, VOLUME)
        await self._site.tokens.load()
        await self._site.node_facts.load()
        self._memories = await self._store.local(OWNER)
        self._known_database = bool(self._memories)
        self._memories.pop(_KNOWN_DATABASE, None)
        await asyncio.to_thread(_make_folder, self._site.volume_root)
        if not self._site.allocatable:
            root = self._site.volume_root
            resources = await asyncio.to_thread(machineinfo.capacity, root, 0)
            usable = machineinfo.allocatable(resources)
            del usable["pods"]  # nobody said how many
            self._site = dataclasses.replace(self._site, allocatable=usable)
        self.admission.know_resources(self._site.allocatable)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Containers keep running; there is nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._scan_static()
            for stored in await self._store.list("Pod"):
                self._take(stored.key, stored)
            for uid in self._memories.keys() - self._workers.keys():
                self._end_unknown(uid)
            group.create_task(self._watch_records(), name="edged records")
            group.create_task(self._watch_static(), name="edged static pods")
            group.create_task(self._watch_runtime(), name="edged relist")
            group.create_task(self._watch_events(), name="edged events")
            if self._uplink is not None:
                group.create_task(self._site.node_facts.run(), name="edged node facts")
            group.create_task(self._site.prober.run(), name="edged prober")

    async def _watch_static(self) -> None:
        while True:
            with suppress(StoreError):  # the store has said so; the next round compares again
                await self._mirrors.settle()
            try:
                async with asyncio.timeout(STATIC_SCAN_S):
                    await self._mirrors_changed.wait()
                self._mirrors_changed.clear()
            except TimeoutError:
                await self._scan_static()

    async def _scan_static(self) -> None:
        for key, stored in (await asyncio.to_thread(self._static.scan)).items():
            self._take(key, stored)

    def _mirror(self, static_uid: str, mirror_uid: str) -> None:
        if static_uid in self._workers:
            self._workers[static_uid].report_as(mirror_uid)

    def status_of(self, uid: str) -> Mapping[str, Any] | None:
        """Return the newest status of the pod, as it was reported; None if there is none."""
        worker = self._workers.get(uid)
        return worker.memory.status or None if worker is not None else None

    def _report_again(self) -> None:
        self._mirrors.ask_again()
        for worker in self._workers.values():
            worker.report_again()

    async def _watch_records(self) -> None:
        while True:
            changed = await self._feed.changed()
            for key in changed:
                if key.kind == "Pod":
                    self._take(key, await self._store.get(key))
            objects = {key for key in changed if key.kind != "Pod"}
            volumes = any(key.kind == VOLUME for key in changed)
            for worker in self._workers.values():
                if objects & worker.references or (volumes and worker.waits_for_volumes):
                    worker.poke(references_changed=True)

    async def _watch_events(self) -> None:
        """Look at pods that the runtime says have changed; while it says so, the relist may take its time."""
        while True:
            try:
                async for uid in self._runtime.events():
                    self._evented = True
                    if uid in self._workers:
                        self._workers[uid].poke()
            except RuntimeUnavailableError:
                self._evented = False  # the relist says it
                await asyncio.sleep(RELIST_S)
            else:
                self._evented = False
                await asyncio.sleep(EVENTS_AGAIN_S)

    async def _watch_runtime(self) -> None:
        reachable = False
        for number in itertools.count():
            self._note_link()
            if self._evented and reachable and number % RELISTS_SKIPPED:
                await asyncio.sleep(RELIST_S)
                continue
            try:
                known = set(self._workers)
                listed = await self._runtime.list_sandboxes()
            except RuntimeUnavailableError as exc:
                reachable = False
                self._fault.failed(exc)
            else:
                if not reachable:
                    self._wake_all()
                reachable = True
                self._fault.cleared()
                with suppress(StoreError):  # the store has said so; the next round compares again
                    await self._compare(listed, known)
            await asyncio.sleep(RELIST_S)

    def _note_link(self) -> None:
        """Ask for tokens at once when the cloud can be reached again; their own waits grow to minutes."""
        linked = self._uplink is not None and self._uplink.connected
        if linked and not self._linked:
            self._site.tokens.retry_now()
            for worker in self._workers.values():
                if worker.has_tokens:
                    worker.poke()
        self._linked = linked

    async def _compare(self, listed: list[SandboxState], known: set[str]) -> None:
        """Wake the workers whose pods look different, and see to what belongs to no pod.

        Shapes:  known: uids that had a worker before the listing: one that just ended may still be listed.
        """
        now: dict[str, list[SandboxState]] = {}
        for sandbox in listed:
            now.setdefault(sandbox.pod.uid, []).append(sandbox)
        for uid in now.keys() | self._seen.keys():
            if uid in self._workers and now.get(uid) != self._seen.get(uid):
                self._workers[uid].poke()
        self._seen = now
        strangers = now.keys() - self._workers.keys() - known
        if (strangers or not self._files_checked) and await self._may_end_strangers():
            for uid in strangers:
                identity = now[uid][0].pod
                logger.warning(
                    "ending a pod that has no record",
                    extra={"pod": f"{identity.namespace}/{identity.name}", "uid": uid},
                )
                memory = PodMemory(namespace=identity.namespace, name=identity.name)
                self._spawn(uid, PodWorker(self._site, uid, memory))
            if not self._files_checked:
                await self._remove_stray_files()

    async def _may_end_strangers(self) -> bool:
        """Return whether the store can be trusted to hold every pod of this node."""
        if self._known_database or self._uplink is None:
            return True
        if not self._uplink.connected:
            self._connected_since_s = None
            return False
        if self._connected_since_s is None:
            self._connected_since_s = self._clock()
        if self._clock() - self._connected_since_s < ORPHAN_PATIENCE_S:
            return False
        await self._store.commit(Commit(local={(OWNER, _KNOWN_DATABASE): b"1"}))
        self._known_database = True
        return True

    async def _remove_stray_files(self) -> None:
        """End pods that left only files behind; once, because every worker sees to its own."""
        self._files_checked = True
        await self._site.tokens.keep_only(self._workers.keys())
        folders = await asyncio.to_thread(_names_in, self._site.volume_root)
        for uid in folders - self._workers.keys():
            self._spawn(uid, PodWorker(self._site, uid, PodMemory(namespace="", name=uid)))

    def _take(self, key: ObjectKey, stored: StoredObject | None) -> None:
        """Tell the worker of `key`'s pod about its record; an older pod of that name must go."""
        if key.kind == "Pod" and self._mirrors.take(key, stored):
            self._mirrors_changed.set()
            return
        before = self._by_name.get(key)
        if before is not None and (stored is None or before != stored.uid):
            del self._by_name[key]
            if before in self._workers:
                self._workers[before].update(None)
        if key.kind != "Pod" and not self._turns.may_start(key, stored):
            return
        if stored is None:
            return
        self._by_name[key] = stored.uid
        worker = self._workers.get(stored.uid)
        if worker is None:
            worker = self._adopt(stored)
        worker.update(stored)

    def _adopt(self, stored: StoredObject) -> PodWorker:
        note = self._memories.pop(stored.uid, b"")
        fresh = PodMemory(namespace=stored.key.namespace, name=stored.key.name)
        worker = PodWorker(self._site, stored.uid, _decode_memory(note) or fresh, note)
        if stored.key in self._static.pods:
            worker.report_as("")  # until its mirror is known
        # Before its first step: a worker starts as "gone" until it is given a record.
        self._spawn(stored.uid, worker)
        return worker

    def _end_unknown(self, uid: str) -> None:
        """End a pod whose record was removed while this agent was down."""
        note = self._memories.pop(uid)
        memory = _decode_memory(note) or PodMemory(namespace="", name=uid)
        self._spawn(uid, PodWorker(self._site, uid, memory, note))

    def _spawn(self, uid: str, worker: PodWorker) -> None:
        self._workers[uid] = worker
        self._group.create_task(self._run_worker(uid, worker), name=f"pod {uid}")

    async def _run_worker(self, uid: str, worker: PodWorker) -> None:
        await worker.run()
        self.admission.leave(uid)
        del self._workers[uid]
        for key, successor in self._turns.left(uid):
            self._mirrors_changed.set()
            self._take(key, successor)

    async def images_wanted(self) -> set[str]:
        """Return the names of the images of all pods here that have not ended."""
        pods = [w.pod for w in self._workers.values() if w.pod is not None and not w.has_ended]
        return {c.image for pod in pods for c in (*pod.spec.init_containers, *pod.spec.containers)}

    async def memory_of_pods(self) -> Observation | None:
        """Return what is left of the memory of all pods together, None if it has no limit here.

        Raises:  RuntimeUnavailableError.
        """
        return await self._site.provision.memory_of_pods()

    def claims(self) -> dict[tuple[str, str], str]:
        """Return (pod uid, volume name) -> name of the claim behind it."""
        pods = [worker.pod for worker in self._workers.values() if worker.pod is not None]
        found: dict[tuple[str, str], str] = {}
        for pod in pods:
            for volume in pod.spec.volumes:
                if volume.persistent_volume_claim is not None:
                    claim = volume.persistent_volume_claim.claim_name
                elif volume.ephemeral is not None:
                    claim = f"{pod.metadata.name}-{volume.name}"
                else:
                    continue
                found[pod.metadata.uid, volume.name] = claim
        return found

    def active(self) -> dict[str, PodWorker]:
        """Return the workers of the pods that could be evicted, by uid."""
        return {uid: worker for uid, worker in self._workers.items() if worker.is_active}

    def _make_room(self, victim: Demands) -> None:
        worker = self._workers.get(victim.uid)
        if worker is not None:
            message = "Pod was preempted by Kubelet to accommodate a critical pod."
            worker.evict(PREEMPTED_REASON, PREEMPTED_MESSAGE, 0.0, message)

    def _wake_all(self) -> None:
        for worker in self._workers.values():
            worker.poke()


def _decode_memory(note: bytes) -> PodMemory | None:
    if not note:
        return None
    try:
        return msgspec.json.decode(note, type=PodMemory)
    except msgspec.DecodeError as exc:  # of another version of this program: start from what runs
        logger.warning("pod memory does not decode: %s", exc)
        return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o750)  # as kubelet's: secrets lie below
    except OSError as exc:
        raise ConfigError(SETTINGS, "pods.root_dir", f"{folder}: {exc.strerror}") from exc


def _names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
