"""The component that speaks for the node: its lease, and its Node object."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from corekit.errors import SETTINGS, ConfigError, StoreError
from corekit.logs import RepeatedFault
from corekit.timestamps import rfc3339, rfc3339_micro
from edgecore.edged import machineinfo
from edgecore.edged.runtime import ContainerRuntime, RuntimeUnavailableError
from edgecore.records import Commit, RecordStore, Report, Uplink
from edgecore.settings import EdgeSettings
from synccore.messages import Lane, ObjectKey

logger = logging.getLogger(__name__)

OWNER = "node"  # of the last report, kept for its transition times
MAX_IMAGES = 50  # kubelet's default for a Node's status
CONNECTION_CHECK_S = 0.5
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
# kubelet's words: type -> (reason, message) when short, and when not.
_PRESSURE_WORDS = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
_READY = ("KubeletReady", "kubelet is posting ready status")
_NOT_READY = ("KubeletNotReady", "container runtime is down")


class NodeReporter:
    """Renews the lease while a session is live, and reports the node when it changed or is due."""

    name = "node"

    def __init__(
        self,
        settings: EdgeSettings,
        node_name: str,
        store: RecordStore,
        uplink: Uplink,
        runtime: ContainerRuntime,
        *,
        address: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._node_name, self._store = settings, node_name, store
        self._uplink, self._runtime, self._clock = uplink, runtime, clock
        self._address = address or node_address(settings)
        self._taints = [parse_taint(text) for text in settings.node.taints]
        self._root = Path(settings.pods.root_dir)
        self._runtime_version = ""
        self._last: dict[str, Any] = {}
        self._last_sent_s = float("-inf")
        self._wanted = asyncio.Event()
        self._fault = RepeatedFault(logger, "node report cannot be stored")
        uplink.on_report_all(self._report_again)

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

    def _report_again(self) -> None:
        self._last_sent_s = float("-inf")
        self._wanted.set()

    async def _report_if_due(self) -> None:
        now_s = self._clock()
        report = await self._node(now_s)
        age_s = time.monotonic() - self._last_sent_s
        unchanged = _without_heartbeats(report) == _without_heartbeats(self._last)
        if unchanged and age_s < self._settings.pods.node_report_interval_s:
            return
        body = msgspec.json.encode(report)
        key = ObjectKey("Node", "", self._node_name)
        await self._store.commit(
            Commit(
                reports=[Report(key, "", body, Lane.CONTROL)],
                local={(OWNER, self._node_name): body},
            )
        )
        self._last, self._last_sent_s = report, time.monotonic()

    async def _node(self, now_s: float) -> dict[str, Any]:
        """Return the Node report as it is now."""
        images, ready = await self._ask_runtime()
        resources = await asyncio.to_thread(
            machineinfo.capacity, self._root, self._settings.node.max_pods
        )
        pressures = await asyncio.to_thread(machineinfo.pressures, self._root)
        info = await asyncio.to_thread(machineinfo.node_info, self._runtime_version)
        usable = machineinfo.allocatable(resources)
        return {
            "metadata": {"labels": self._labels(), "annotations": {}},
            "spec": {"taints": self._taints},
            "status": {
                "capacity": machineinfo.resource_list(resources, bytes_in_ki=True),
                "allocatable": machineinfo.resource_list(usable, bytes_in_ki=False),
                "conditions": self._conditions(pressures, ready=ready, now_s=now_s),
                "addresses": [
                    {"type": "InternalIP", "address": self._address()},
                    {"type": "Hostname", "address": self._node_name},
                ],
                "nodeInfo": info,
                "images": images,
            },
        }

    async def _ask_runtime(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the images and whether the runtime answers; while it does not, the images are the last known."""
        try:
            version = await self._runtime.version()
            images = await self._runtime.images()
        except RuntimeUnavailableError:  # `edged` says so in the log
            return self._last.get("status", {}).get("images", []), False
        self._runtime_version = f"{version.name}://{version.version}"
        largest = sorted(images, key=lambda i: (-i.size_bytes, i.id))[:MAX_IMAGES]
        return [
            {"names": list(i.names) or [i.id], "sizeBytes": i.size_bytes} for i in largest
        ], True

    def _labels(self) -> dict[str, str]:
        machine = {
            "kubernetes.io/arch": machineinfo.architecture(),
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": machineinfo.architecture(),
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/hostname": self._node_name,
            "node-role.kubernetes.io/edge": "",
            "node-role.kubernetes.io/agent": "",
        }
        return {**machine, **self._settings.node.labels}

    def _conditions(
        self, pressures: dict[str, bool], *, ready: bool, now_s: float
    ) -> list[dict[str, Any]]:
        wanted = [
            (kind, short, _PRESSURE_WORDS[kind][not short]) for kind, short in pressures.items()
        ]
        wanted.append(("Ready", ready, _READY if ready else _NOT_READY))
        before = {c["type"]: c for c in self._last.get("status", {}).get("conditions", ())}
        conditions: list[dict[str, Any]] = []
        for kind, holds, (reason, message) in wanted:
            status, now = "True" if holds else "False", rfc3339(now_s)
            known = before.get(kind)
            same = known is not None and known["status"] == status
            conditions.append(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": known["lastTransitionTime"] if known and same else now,
                }
            )
        return conditions


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
