"""The records of every node, kept from the informers: implements `RecordSource`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from cloudcore.edgecontroller.bodies import BodyFetcher
from cloudcore.edgecontroller.claims import ClaimedVolumes
from cloudcore.edgecontroller.heldback import HeldBack
from cloudcore.edgecontroller.holdings import Holdings, Move
from cloudcore.edgecontroller.nodes import (
    Standing,
    is_edge_node,
    recorded_database,
    recorded_endpoint,
    standing_of,
)
from cloudcore.edgecontroller.references import (
    CLAIM,
    Placement,
    has_address,
    place_device,
    place_pod,
    services_of,
    volume_of,
)
from cloudcore.edgecontroller.revocations import Revocations
from cloudcore.kube.client import KubeClient
from cloudcore.kube.informer import Informer, Informers
from cloudcore.kube.projection import Record, project, project_body
from cloudcore.kube.resources import (
    CLAIMS,
    CONFIG_MAPS,
    DEVICE_MODELS,
    DEVICES,
    NODES,
    PODS,
    RUNTIME_CLASSES,
    SECRETS,
    SERVICES,
    VOLUMES,
    KubeObject,
    Resource,
)
from cloudcore.settings import KubeSettings
from synccore.index import RecordIndex, record_version
from synccore.messages import Delta, ObjectKey, Op

logger = logging.getLogger(__name__)

# A pod waits this long for what it refers to, then goes without; so does a node that joins for the first time.
HOLD_LIMIT_S = 5.0
# Who writes over a status again and again costs its node one round of reports in this time.
RESTORE_S = 5.0
FETCHED = {r.kind: r for r in (CONFIG_MAPS, SECRETS, CLAIMS, VOLUMES)}


def pods_informer(informers: Informers) -> Informer:
    """Return the informer of pods; it keeps the bodies that nodes get, because those are needed anyway."""
    return informers.of(PODS, shrink=partial(project_body, PODS))


def nodes_informer(informers: Informers) -> Informer:
    """Return the informer of nodes, without their statuses: the list of images alone is several KiB each."""
    return informers.of(NODES, shrink=partial(project_body, NODES))


class EdgeController:
    """Knows per node the keys it must hold and the newest body of each; one body serves all nodes.

    Config maps and secrets are fetched only for nodes that run our agent (its label, or an open view), so
    the secrets of a cluster's other nodes never enter this process.
    """

    name = "edgecontroller"

    def __init__(self, informers: Informers, client: KubeClient, settings: KubeSettings) -> None:
        self._history = informers.history
        self._holdings, self._claims = Holdings(), ClaimedVolumes()
        self._records: dict[ObjectKey, Record] = {}
        # What is behind a fetched record: a resourceVersion, and in which history of the API server's data. One that was
        # restored from a backup gives a version a second time, to another body.
        self._fetched_at: dict[ObjectKey, tuple[int, str]] = {}
        self._views: dict[str, list[_View]] = {}
        self._agents: set[str] = set()
        self._standings: dict[str, Standing] = {}  # of nodes that are not ready
        self._ready = False
        self._held_back = HeldBack()
        self._asked_at: dict[str, float] = {}
        self._restoring: dict[str, bool] = {}  # asked lately; whether to ask once more
        self._fetcher = BodyFetcher(
            client,
            settings,
            FETCHED,
            needed=self._stale,
            deliver=self._deliver,
            missing=self._settle,
        )
        self._nodes, self._pods = nodes_informer(informers), pods_informer(informers)
        self._devices, self._models = informers.of(DEVICES), informers.of(DEVICE_MODELS)
        self._services = informers.of(SERVICES, shrink=partial(project_body, SERVICES))
        self._classes = informers.of(RUNTIME_CLASSES)
        self._metas = {kind: informers.of(resource) for kind, resource in FETCHED.items()}
        self.revocations = Revocations(client, self._metas[CONFIG_MAPS.kind], settings)

    async def __aenter__(self) -> Self:
        self._nodes.subscribe(_Handler(self._node_changed, self._node_gone))
        self._pods.subscribe(_Handler(self._pod_changed, self._owner_gone))
        self._devices.subscribe(_Handler(self._device_changed, self._owner_gone))
        for informer in (self._models, self._classes):
            changed = partial(self._object_changed, informer.resource)
            informer.subscribe(_Handler(changed, self._record_gone))
        self._services.subscribe(_Handler(self._service_changed, self._service_gone))
        for meta in self._metas.values():
            meta.subscribe(_Handler(self._meta_changed, self._record_gone))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Fetch bodies until cancelled; `synced` once every informer has listed and all is fetched."""
        for informer in self._informers():
            await informer.wait_synced()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fetcher.run(), name="body fetcher")
            group.create_task(self.revocations.run(), name="revocations")
            await self._fetcher.wait_idle()
            await self.revocations.wait_known()
            self._ready = True
            logger.info(
                "records known", extra={"pods": len(self._pods), "devices": len(self._devices)}
            )

    # RecordSource.

    @property
    def synced(self) -> bool:
        """Whether every index is complete; never before each informer has listed."""
        return self._ready

    def horizon(self) -> int:
        """Return the newest version of an object that any informer has seen."""
        return self._history.newest_object

    def ready(self, node: str, horizon: int = 0) -> bool:
        """Tell whether the index of `node` is complete; a node not known as ours until now has to wait a little.

        So has one that another cloudcore told of changes which have not come here yet: it would be sent the past, and
        end pods that it has just begun. Not for ever: of an API server that was restored they never come.
        """
        if not self._ready:
            return False
        self._agents.add(node)
        stale = [key for key in self._holdings.held(node) if self._stale(key)]
        for key in stale:
            self._fetch_if_stale(key)
        if not stale and horizon <= self._history.newest:
            self._asked_at.pop(node, None)
            return True
        # A secret that cannot be read (a missing right) must not keep the node out for ever.
        now_s = asyncio.get_running_loop().time()
        return now_s - self._asked_at.setdefault(node, now_s) >= HOLD_LIMIT_S

    def open(
        self,
        node: str,
        on_change: Callable[[ObjectKey], None],
        on_given_up: Callable[[], None],
    ) -> _View:
        """Return the view of `node`."""
        view = _View(self, node, on_change, on_given_up)
        given_up = self._standing(node) is Standing.GIVEN_UP
        if given_up or self._nodes.get(ObjectKey(NODES.kind, "", node)) is None:
            on_given_up()
        self._views.setdefault(node, []).append(view)
        for key in self._holdings.held(node):
            record = self._records.get(key)
            if record is not None and not self._held_back.holds(key):
                view.index.put(key, record.version)
        return view

    def recorded_database(self, node: str) -> str:
        """Return what the Node says of its database, or ""; see cloudhub's fence."""
        known = self._nodes.get(ObjectKey("Node", "", node))
        return recorded_database(known.body) if known else ""

    def recorded_endpoint(self, node: str) -> str:
        """Return where the Node says that it is reached through cloudcore, as `address:port`, or ""."""
        known = self._nodes.get(ObjectKey("Node", "", node))
        return recorded_endpoint(known.body) if known else ""

    def status_overwritten(self, node: str) -> None:
        """Ask `node` for every state, as somebody else wrote over one of them; at most once in RESTORE_S.

        While the node is not ready the cluster's word on its pods stands; it is asked when it is ready again.
        """
        if self._standing(node) is not Standing.READY:
            return
        if node in self._restoring:
            self._restoring[node] = True
        else:
            self._restore(node)

    def _restore(self, node: str) -> None:
        self._restoring[node] = False
        for view in self._views.get(node, ()):
            view.on_given_up()
        asyncio.get_running_loop().call_later(RESTORE_S, self._restored, node)

    def _restored(self, node: str) -> None:
        if self._restoring.pop(node):
            self._restore(node)

    def read(self, node: str, key: ObjectKey) -> Delta | None:
        """Return the record of `key` for `node`, or None."""
        record = self._records.get(key)
        if record is None or not self._holdings.holds(node, key):
            return None
        return Delta(Op.UPSERT, key, record.uid, record.version, body=record.body)

    def close(self, view: _View) -> None:
        """Forget `view`."""
        views = self._views.get(view.node, [])
        if view in views:
            views.remove(view)
        if not views:
            self._views.pop(view.node, None)

    # What informers say.

    def _pod_changed(self, obj: KubeObject) -> None:
        # Already projected by its informer: the same bytes object serves cache and record.
        record = Record(obj.uid, record_version(obj.uid, obj.body), obj.body)
        self._owner_changed(obj.key, record, place_pod)

    def _device_changed(self, obj: KubeObject) -> None:
        self._owner_changed(obj.key, project(DEVICES, obj), place_device)

    def _owner_changed(
        self, key: ObjectKey, record: Record, place: Callable[[bytes], Placement]
    ) -> None:
        held = self._records.get(key)
        if held is not None and held.version == record.version:
            return  # a status write
        try:
            placement: Placement | None = place(record.body)
        except msgspec.DecodeError as exc:
            logger.warning("%s: kept from its node: %s", key, exc)
            placement = None
        if placement is None or placement.node is None:
            self._owner_gone(key)
            return
        if held is None:
            self._hold_back(key, placement)
        self._set_record(key, record)
        self._follow(self._holdings.place(key, self._claims.place(key, placement)))

    def _hold_back(self, owner: ObjectKey, placement: Placement) -> None:
        """Keep a new pod from its node until what it refers to is here, or is known not to exist.

        Asked of the API server even if no informer knows it: the informers' watches run apart, and the
        ConfigMap that was made before its pod may be seen after it.
        """
        node = placement.node
        missing = [k for k in placement.refers if k.kind in FETCHED and k not in self._records]
        if missing and (node in self._agents or node in self._views):
            self._held_back.hold(owner, missing)
            for key in missing:
                self._fetcher.want(key)
            asyncio.get_running_loop().call_later(HOLD_LIMIT_S, self._release, owner)

    def _settle(self, key: ObjectKey) -> None:
        for owner in self._held_back.settle(key):
            self._show(owner)

    def _release(self, owner: ObjectKey) -> None:
        if self._held_back.release(owner):
            self._show(owner)

    def _show(self, owner: ObjectKey) -> None:
        record = self._records.get(owner)
        if record is not None:
            for view in self._holding_views(owner):
                view.put(owner, record.version)

    def _owner_gone(self, key: ObjectKey) -> None:
        self._held_back.release(key)
        self._records.pop(key, None)
        self._follow(self._holdings.place(key, self._claims.place(key, None)))

    def _object_changed(self, resource: Resource, obj: KubeObject) -> None:
        self._record_changed(obj.key, project(resource, obj))

    def _service_changed(self, obj: KubeObject) -> None:
        try:
            addressed = has_address(obj.body)
        except msgspec.DecodeError as exc:
            logger.warning("%s: kept from nodes: %s", obj.key, exc)
            addressed = False
        if not addressed:  # pods are told of no other
            self._service_gone(obj.key)
            return
        # Already projected by its informer.
        record = Record(obj.uid, record_version(obj.uid, obj.body), obj.body)
        self._record_changed(obj.key, record)
        self._follow(self._holdings.join(services_of(obj.key.namespace), obj.key))

    def _service_gone(self, key: ObjectKey) -> None:
        self._record_gone(key)
        self._follow(self._holdings.part(services_of(key.namespace), key))

    def _record_changed(self, key: ObjectKey, record: Record) -> None:
        held = self._records.get(key)
        if held is None or held.version != record.version:
            self._set_record(key, record)

    def _meta_changed(self, obj: KubeObject) -> None:
        self._fetch_if_stale(obj.key)

    def _record_gone(self, key: ObjectKey) -> None:
        self._fetched_at.pop(key, None)
        self._bind(key, None)
        if self._records.pop(key, None) is not None:
            for view in self._holding_views(key):
                view.drop(key)

    def _node_changed(self, obj: KubeObject) -> None:
        node = obj.key.name
        self._note_standing(node, standing_of(obj.body))
        if not is_edge_node(obj.body):
            self._agents.discard(node)
        elif node not in self._agents:
            self._agents.add(node)
            for key in self._holdings.held(node):
                self._fetch_if_stale(key)

    def _standing(self, node: str) -> Standing:
        return self._standings.get(node, Standing.READY)

    def _note_standing(self, node: str, standing: Standing) -> None:
        """Ask for every state when the node was given up, and when it is ready again.

        While it was not ready the cluster may have called its pods not ready: upstream once, when the node fell
        silent, kubecore over and over, also when the node itself said so. Only what is said afterwards stays.
        """
        before = self._standing(node)
        if standing is before:
            return
        self._standings.pop(node, None)
        if standing is not Standing.READY:
            self._standings[node] = standing
        if standing is not Standing.NOT_READY:
            for view in self._views.get(node, ()):
                view.on_given_up()

    def _node_gone(self, key: ObjectKey) -> None:
        self._standings.pop(key.name, None)
        self._agents.discard(key.name)
        # Deleted by hand while it is connected: its next full report, minutes away, would register it again.
        for view in self._views.get(key.name, ()):
            view.on_given_up()

    # What follows from it.

    def _set_record(self, key: ObjectKey, record: Record) -> None:
        self._records[key] = record
        if self._held_back.holds(key):
            return
        for view in self._holding_views(key):
            view.put(key, record.version)

    def _follow(self, moves: list[Move]) -> None:
        for node, key, held in moves:
            record = self._records.get(key)
            for view in self._views.get(node, ()):
                if held and record is not None and not self._held_back.holds(key):
                    view.put(key, record.version)
                elif not held:
                    view.drop(key)
            if held:
                self._fetch_if_stale(key)
            elif key.kind in FETCHED and not self._holdings.holders(key):
                self._records.pop(key, None)  # a secret leaves memory with its last pod
                self._fetched_at.pop(key, None)

    def _bind(self, key: ObjectKey, body: bytes | None) -> None:
        """Follow a claim to its volume: the nodes of its pods need both."""
        if key.kind != CLAIM:
            return
        try:
            volume = volume_of(body) if body is not None else None
        except msgspec.DecodeError as exc:
            logger.warning("%s: its volume is not known: %s", key, exc)
            volume = None
        for owner, placement in self._claims.bind(key, volume).items():
            if volume is not None and volume not in self._records and self._held_back.holds(owner):
                self._held_back.also(owner, volume)
                self._fetcher.want(volume)
            self._follow(self._holdings.place(owner, placement))

    def _holding_views(self, key: ObjectKey) -> Iterable[_View]:
        return [v for node in self._holdings.holders(key) for v in self._views.get(node, ())]

    def _fetch_if_stale(self, key: ObjectKey) -> None:
        if self._stale(key):
            self._fetcher.want(key)

    def _stale(self, key: ObjectKey) -> bool:
        """Tell whether `key` exists, one of our nodes must hold it, and we have not its newest body."""
        if key.kind not in FETCHED:
            return False
        if self._held_back.awaits(key):
            return True
        meta = self._metas[key.kind].get(key)
        if meta is None or self._fetched_at.get(key) == self._at(meta):
            return False
        return any(n in self._agents or n in self._views for n in self._holdings.holders(key))

    def _deliver(self, obj: KubeObject) -> None:
        meta = self._metas[obj.key.kind].get(obj.key)
        # Deleted or made anew while it was fetched: the informer reports that next, or already has.
        known = self._held_back.awaits(obj.key) if meta is None else meta.uid == obj.uid
        if not known or not self._holdings.holders(obj.key):
            return
        self._fetched_at[obj.key] = self._at(obj)
        record = project(FETCHED[obj.key.kind], obj)
        held = self._records.get(obj.key)
        if held is None or held.version != record.version:
            self._set_record(obj.key, record)
        self._bind(obj.key, record.body)
        self._settle(obj.key)  # after its record: the pod that waits for it must come behind it

    def _at(self, obj: KubeObject) -> tuple[int, str]:
        return self._history.restores, obj.resource_version

    def _informers(self) -> list[Informer]:
        small = (self._nodes, self._devices, self._models, self._services, self._classes)
        return [*small, self._pods, *self._metas.values()]


class _View:
    """The records of one node for one session; implements `NodeView`."""

    def __init__(
        self,
        controller: EdgeController,
        node: str,
        on_change: Callable[[ObjectKey], None],
        on_given_up: Callable[[], None],
    ) -> None:
        self.node, self.index = node, RecordIndex()
        self._controller, self._on_change = controller, on_change
        self.on_given_up = on_given_up

    def read(self, key: ObjectKey) -> Delta | None:
        """Return the newest delta of `key`, or None if the node must not hold it."""
        return self._controller.read(self.node, key)

    def close(self) -> None:
        """Stop calling `on_change`."""
        self._controller.close(self)

    def put(self, key: ObjectKey, version: int) -> None:
        """Note a new version, and say so."""
        self.index.put(key, version)
        self._on_change(key)

    def drop(self, key: ObjectKey) -> None:
        """Note that the node must not hold `key`, and say so if that is new."""
        if self.index.version(key) is not None:
            self.index.drop(key)
            self._on_change(key)


class _Handler:
    """An `InformerHandler` of two methods."""

    def __init__(
        self, upsert: Callable[[KubeObject], None], delete: Callable[[ObjectKey], None]
    ) -> None:
        self.on_upsert, self.on_delete = upsert, delete

    def on_synced(self) -> None:
        """`run()` waits for that."""
