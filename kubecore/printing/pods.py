"""The row of a pod, as `kubectl get pods` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubecore.kinds.resource import Column
from kubecore.printing.durations import age

NONE = "<none>"

POD_COLUMNS = (
    Column("Name", "string", format="name"),
    Column(
        "Ready", "string", "", "The aggregate readiness state of this pod for accepting traffic."
    ),
    Column("Status", "string", "", "The aggregate status of the containers in this pod."),
    Column(
        "Restarts",
        "string",
        "",
        "The number of times the containers in this pod have been restarted.",
    ),
    Column("Age", "string"),
    Column("IP", "string", priority=1),
    Column("Node", "string", priority=1),
    Column("Nominated Node", "string", priority=1),
    Column("Readiness Gates", "string", priority=1),
)


@dataclass
class _Tally:
    """What the containers add up to."""

    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    last_restart: str = ""  # RFC 3339 in UTC, so text order is time order
    initializing: bool = False

    def add_restarts(self, container: dict[str, Any]) -> None:
        self.restarts += int(container.get("restartCount", 0))
        finished = (container.get("lastState") or {}).get("terminated", {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, finished)


def pod_cells(pod: dict[str, Any], now_s: float) -> list[Any]:
    """Return the cells of POD_COLUMNS."""
    spec, status, meta = pod.get("spec", {}), pod.get("status", {}), pod["metadata"]
    tally = _tally(pod)
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts = f"{restarts} ({age(tally.last_restart, now_s)} ago)"
    return [
        meta.get("name", ""),
        f"{tally.ready}/{tally.total}",
        tally.reason,
        restarts,
        age(meta.get("creationTimestamp"), now_s),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def pod_status(pod: dict[str, Any]) -> str:
    """Return the one word that kubectl shows as the pod's status."""
    return _tally(pod).reason


def _tally(pod: dict[str, Any]) -> _Tally:
    spec, status = pod.get("spec", {}), pod.get("status", {})
    tally = _Tally(status.get("reason") or status.get("phase") or "")
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") == "SchedulingGated":
        tally.reason = "SchedulingGated"
    sidecars = {
        c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"
    }
    tally.total = len(spec.get("containers") or []) + len(sidecars)
    sidecar_tally = _Tally("")
    _count_init(tally, sidecar_tally, spec, status, sidecars)
    if not tally.initializing or _condition(status, "Initialized").get("status") == "True":
        # Once the pod runs, what the init containers did no longer counts; what sidecars do still does.
        tally.restarts, tally.last_restart = sidecar_tally.restarts, sidecar_tally.last_restart
        _count_main(tally, status)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            tally.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            tally.reason = "Terminating"
    return tally


def _count_init(
    tally: _Tally,
    sidecar_tally: _Tally,
    spec: dict[str, Any],
    status: dict[str, Any],
    sidecars: set[str],
) -> None:
    for index, container in enumerate(status.get("initContainerStatuses") or []):
        tally.add_restarts(container)
        is_sidecar = container.get("name") in sidecars
        if is_sidecar:
            sidecar_tally.add_restarts(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if is_sidecar and container.get("started"):
            tally.ready += bool(container.get("ready"))
            continue
        if ended is not None:
            tally.reason = f"Init:{_ended_reason(ended)}"
        elif waiting.get("reason", "") not in ("", "PodInitializing"):
            tally.reason = f"Init:{waiting['reason']}"
        else:
            tally.reason = f"Init:{index}/{len(spec.get('initContainers') or [])}"
        tally.initializing = True
        return


def _count_main(tally: _Tally, status: dict[str, Any]) -> None:
    running = False
    for container in reversed(status.get("containerStatuses") or []):
        tally.add_restarts(container)
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            tally.reason = waiting["reason"]
        elif ended is not None:
            tally.reason = _ended_reason(ended)
        elif container.get("ready") and state.get("running") is not None:
            running = True
            tally.ready += 1
    if tally.reason == "Completed" and running:
        ready = _condition(status, "Ready").get("status") == "True"
        tally.reason = "Running" if ready else "NotReady"


def _ended_reason(ended: dict[str, Any]) -> str:
    if reason := ended.get("reason"):
        return str(reason)
    if signal := ended.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return NONE
    passed = sum(
        _condition(status, gate["conditionType"]).get("status") == "True" for gate in gates
    )
    return f"{passed}/{len(gates)}"


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((c for c in status.get("conditions") or [] if c.get("type") == kind), {})
