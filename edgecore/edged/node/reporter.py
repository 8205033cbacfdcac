"""The component that speaks for the node: its lease, and its Node object."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from corekit.errors import SETTINGS, ConfigError, StoreError
from corekit.logs import RepeatedFault
from corekit.timestamps import rfc3339_micro
from edgecore.edged.node import machineinfo
from edgecore.edged.node.conditions import node_conditions, not_ready_because, transitions
from edgecore.edged.runtime import RuntimeUnavailableError
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.thresholds import parse_thresholds
from edgecore.edged.usage import MeteredRuntime, RuntimeHandler, RuntimeHealth
from edgecore.records import Commit, RecordStore, Report, Uplink
from edgecore.settings import EdgeSettings
from synccore.messages import Lane, ObjectKey

logger = logging.getLogger(__name__)

OWNER = "node"  # of the last report, kept for its transition times
MAX_IMAGES, MAX_NAMES = 50, 5  # kubelet's defaults for a Node's status
_OF_RUNTIME = frozenset({"runtimeHandlers"})  # kept as last known while the runtime is down
CONNECTION_CHECK_S = 0.5
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class NodeVoice(Protocol):
    """Events about the node. Both raise StoreError."""

    async def tell(self, reason: str, message: str) -> None:
        """Tell of something that is wrong."""

    async def note(self, reason: str, message: str) -> None:
        """Tell of something that is as it should be."""


class NodeReporter:
    """Renews the lease while a session is live, and reports the node when it changed or is due."""

    name = "node"

    def __init__(
        self,
        settings: EdgeSettings,
        node_name: str,
        store: RecordStore,
        uplink: Uplink,
        runtime: MeteredRuntime,
        *,
        address: Callable[[], str] | None = None,
        pressures: Callable[[], Collection[str]] = tuple,
        volumes_in_use: Callable[[], Sequence[str]] = tuple,
        events: NodeVoice | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._node_name, self._store = settings, node_name, store
        self._uplink, self._runtime, self._clock = uplink, runtime, clock
        self._address = address or node_address(settings)
        self._taints = [parse_taint(text) for text in settings.node.taints]
        self._pressures, self._volumes_in_use, self._events = pressures, volumes_in_use, events
        self._runtime_version = ""
        self._last: dict[str, Any] = {}
        self._last_sent_s = float("-inf")
        self._wanted = asyncio.Event()
        self._fault = RepeatedFault(logger, "node report cannot be stored")
        uplink.on_report_all(self.report_again)

    async def __aenter__(self) -> Self:
        stored = (await self._store.local(OWNER)).get(self._node_name)
        if stored:
            self._last = msgspec.json.decode(stored)
            info = self._last.get("status", {}).get("nodeInfo", {})
            self._runtime_version = info.get("containerRuntimeVersion", "")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renew_lease(), name="node lease")
            group.create_task(self._report_status(), name="node status")

    async def _renew_lease(self) -> None:
        interval_s = self._settings.pods.lease_interval_s
        renewed_s = float("-inf")
        was_connected = False
        while True:
            connected, now_s = self._uplink.connected, time.monotonic()
            # At once on connecting: until the first renewal the cluster calls the node NotReady.
            if connected and (not was_connected or now_s - renewed_s >= interval_s):
                self._uplink.offer(self._lease())
                renewed_s = now_s
            was_connected = connected
            await asyncio.sleep(min(CONNECTION_CHECK_S, interval_s))

    def _lease(self) -> Report:
        body = {
            "renewTime": rfc3339_micro(self._clock()),
            # Four missed renewals, as upstream.
            "leaseDurationSeconds": max(round(4 * self._settings.pods.lease_interval_s), 1),
        }
        key = ObjectKey("Lease", "kube-node-lease", self._node_name)
        return Report(key, "", msgspec.json.encode(body), Lane.CONTROL)

    async def _report_status(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self._report_if_due()
                self._fault.cleared()
            except (
                StoreError
            ) as exc:  # no room on the disk: the lease goes on, and this is tried again
                self._fault.failed(exc)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.pods.status_interval_s):
                    await self._wanted.wait()

    def look_again(self) -> None:
        """Look at the node now: something about it may have changed."""
        self._wanted.set()

    def report_again(self) -> None:
        """Report the node now, whether or not it changed."""
        self._last_sent_s = float("-inf")
        self._wanted.set()

    async def _report_if_due(self) -> None:
        now_s = self._clock()
        report = await self._node(now_s)
        age_s = time.monotonic() - self._last_sent_s
        unchanged = _without_heartbeats(report) == _without_heartbeats(self._last)
        if unchanged and age_s < self._settings.pods.node_report_interval_s:
            return
        await self._tell_changes(report)
        body = msgspec.json.encode(report)
        key = ObjectKey("Node", "", self._node_name)
        await self._store.commit(
            Commit(
                reports=[Report(key, "", body, Lane.CONTROL)],
                local={(OWNER, self._node_name): body},
            )
        )
        self._last, self._last_sent_s = report, time.monotonic()

    async def _tell_changes(self, report: dict[str, Any]) -> None:
        """Make the Events of what is different from the last report. Raises: StoreError."""
        if self._events is None:
            return
        before, after = self._last.get("status", {}), report["status"]
        boot_id = after["nodeInfo"]["bootID"]
        if before and before.get("nodeInfo", {}).get("bootID") != boot_id:
            message = f"Node {self._node_name} has been rebooted, boot id: {boot_id}"
            await self._events.tell("Rebooted", message)
        changed = transitions(before.get("conditions", ()), after["conditions"], self._node_name)
        for reason, message in changed:
            await self._events.note(reason, message)

    async def _node(self, now_s: float) -> dict[str, Any]:
        """Return the Node report as it is now."""
        images, health = await self._ask_runtime()
        resources, usable = await asyncio.to_thread(node_resources, self._settings)
        info = await asyncio.to_thread(machineinfo.node_info, self._runtime_version)
        before = self._last.get("status", {}).get("conditions", ())
        problem = not_ready_because(health)
        status: dict[str, Any] = {
            "capacity": machineinfo.resource_list(resources, bytes_in_ki=True),
            "allocatable": machineinfo.resource_list(usable, bytes_in_ki=False),
            "conditions": node_conditions(self._pressures(), problem, before, now_s),
            "addresses": [
                {"type": "InternalIP", "address": self._address()},
                {"type": "Hostname", "address": self._node_name},
            ],
            "nodeInfo": info,
            "images": images,
            "volumesInUse": sorted(self._volumes_in_use()),
        }
        if health is None:
            status |= {k: v for k, v in self._last.get("status", {}).items() if k in _OF_RUNTIME}
        elif health.handlers:
            status["runtimeHandlers"] = [_handler(handler) for handler in health.handlers]
        return {
            "metadata": {"labels": self._labels(), "annotations": {}},
            "spec": {"taints": self._taints},
            "status": status,
        }

    async def _ask_runtime(self) -> tuple[list[dict[str, Any]], RuntimeHealth | None]:
        """Return the images and the runtime's health; while it is down, the images are the last known."""
        try:
            version = await self._runtime.version()
            images = await self._runtime.images()
            health = await self._runtime.health()
        except RuntimeUnavailableError:  # `edged` says so in the log
            return self._last.get("status", {}).get("images", []), None
        self._runtime_version = f"{version.name}://{version.version}"
        largest = sorted(images, key=lambda i: (-i.size_bytes, i.id))[:MAX_IMAGES]
        told = [
            {"names": list(i.names)[:MAX_NAMES] or [i.id], "sizeBytes": i.size_bytes}
            for i in largest
        ]
        return told, health

    def _labels(self) -> dict[str, str]:
        # No role: NodeRestriction refuses the whole registration of a node that gives itself one.
        machine = {
            "kubernetes.io/arch": machineinfo.architecture(),
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": machineinfo.architecture(),
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/hostname": self._node_name,
        }
        return {**machine, **self._settings.node.labels}


def node_resources(settings: EdgeSettings) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """Return capacity and allocatable of this node; blocks for a statvfs. Raises: ConfigError."""
    pods = settings.pods
    for key, amounts in (
        ("node.extended_resources", settings.node.extended_resources),
        ("pods.system_reserved", pods.system_reserved),
        ("pods.kube_reserved", pods.kube_reserved),
    ):
        for name, amount in amounts.items():
            _check_amount(f"{key}.{name}", amount)
    resources = machineinfo.capacity(
        Path(pods.root_dir), settings.node.max_pods, settings.node.extended_resources
    )
    hard = parse_thresholds("pods.eviction_hard", pods.eviction_hard)
    reserved = (pods.system_reserved, pods.kube_reserved)
    return resources, machineinfo.allocatable(resources, reserved, hard)


def _check_amount(key: str, amount: str) -> None:
    try:
        fits = parse_quantity(amount) >= 0
    except ValueError as exc:
        raise ConfigError(SETTINGS, key, str(exc)) from exc
    if not fits:
        raise ConfigError(SETTINGS, key, f"{amount} is less than 0")


def _handler(handler: RuntimeHandler) -> dict[str, Any]:
    features = {
        "recursiveReadOnlyMounts": handler.recursive_read_only_mounts,
        "userNamespaces": handler.user_namespaces,
    }
    return {"name": handler.name, "features": features}


def node_name_of(settings: EdgeSettings) -> str:
    """Return the node's name: the setting, or the host's own."""
    return settings.node.name or socket.gethostname().lower()


def node_address(settings: EdgeSettings) -> Callable[[], str]:
    """Return a function that gives the node's InternalIP: the setting, or the address that routes to the cloud."""
    fixed = settings.node.address
    return (lambda: fixed) if fixed else machineinfo.routed_address(settings.hub.server)


def parse_taint(text: str) -> dict[str, str]:
    """Return a taint from `key=value:Effect` or `key:Effect`. Raises: ConfigError."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not key or effect not in _EFFECTS:
        raise ConfigError(SETTINGS, "node.taints", f"{text!r} is not key=value:Effect")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def _without_heartbeats(report: dict[str, Any]) -> dict[str, Any]:
    status = report.get("status", {})
    conditions = [
        {k: v for k, v in c.items() if k != "lastHeartbeatTime"}
        for c in status.get("conditions", ())
    ]
    return {**report, "status": {**status, "conditions": conditions}}
