"""Waiting until each part does its work, with a line for each and a deadline that names the culprit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from armadillo.up.api import Api, ApiNotReadyError
from armadillo.up.console import Console, tail
from armadillo.up.errors import UpError
from armadillo.up.supervisor import Supervisor
from corekit.timestamps import parse_rfc3339

# A first start on a slow board imports everything from a cold disk; after this long nothing more will come.
DEADLINE_S = 60.0
POLL_S = 0.1

# Returns an empty string when ready, else what is missing.
Probe = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Readiness:
    """Waits for probes; `deadline_s` counts from the construction, over all of them."""

    supervisor: Supervisor
    console: Console
    deadline_s: float

    async def wait(self, what: str, child: str, probe: Probe) -> None:
        """Return when `probe` says so, and print that `what` is ready; `child` is whose log tells why not.

        Raises:  UpError: the deadline passed, or the child gave up.
        """
        problem = ""
        while True:
            try:
                problem = await probe()
            except ApiNotReadyError as exc:
                problem = str(exc)
            if not problem:
                self.console.step(f"{what}: ready")
                return
            self._check(what, child, problem)
            await asyncio.sleep(POLL_S)

    def _check(self, what: str, child: str, problem: str) -> None:
        watched = self.supervisor.children.get(child)
        if watched is not None and watched.gave_up:
            raise UpError(f"{what} cannot start: see {watched.log}")
        if self.console.elapsed_s <= self.deadline_s:
            return
        line = f"{what} is not ready: {problem}"
        if watched is not None:
            line += f"\n  last lines of {watched.log}:\n{tail(watched.log)}"
        raise UpError(line)


def node_ready(api: Api, node: str, since_s: float) -> Probe:
    """Return a probe for "the node is Ready, and has said so since `since_s`" (Unix seconds).

    Without the second half, a resumed node would count as ready on the word of its last run.
    """

    async def probe() -> str:
        lease = await api.get(
            f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}"
        )
        if not _renewed_since(lease, since_s):
            return "no lease from this run"
        found = await api.get(f"/api/v1/nodes/{node}")
        if found is None:
            return "not registered"
        conditions = found.get("status", {}).get("conditions") or []
        ready: dict[str, Any] = next((c for c in conditions if c.get("type") == "Ready"), {})
        return "" if ready.get("status") == "True" else str(ready.get("message") or "not Ready")

    return probe


def device_online(api: Api, namespace: str, name: str) -> Probe:
    """Return a probe for "the device reports itself online"."""

    async def probe() -> str:
        path = f"/apis/devices.kubeedge.io/v1beta1/namespaces/{namespace}/devices/{name}"
        found = await api.get(path)
        if found is None:
            return "not there"
        state = (found.get("status") or {}).get("state", "not reported")
        return "" if state == "online" else f"state: {state}"

    return probe


def objects_applied(api: Api, objects: list[dict[str, Any]], *, overwrite: bool) -> Probe:
    """Return a probe that applies `objects`; it goes on where it stopped, for a CRD takes a moment to serve."""
    remaining = list(objects)

    async def probe() -> str:
        while remaining:
            await api.ensure(remaining[0], overwrite=overwrite)
            remaining.pop(0)
        return ""

    return probe


def _renewed_since(lease: dict[str, Any] | None, since_s: float) -> bool:
    renewed = ((lease or {}).get("spec") or {}).get("renewTime")
    try:
        return renewed is not None and parse_rfc3339(renewed) >= since_s
    except ValueError:
        return False
