"""Takes what nodes report about themselves to the Kubernetes API: implements `ReportSink`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, Protocol
from weakref import WeakValueDictionary

import msgspec

from cloudcore import metrics
from cloudcore.edgecontroller.controller import nodes_informer, pods_informer
from cloudcore.edgecontroller.events import EventWriter
from cloudcore.edgecontroller.leases import LeaseWriter
from cloudcore.edgecontroller.losses import LossWriter
from cloudcore.edgecontroller.mirrors import MirrorWriter
from cloudcore.edgecontroller.nodes import Endpoint, NodeWriter
from cloudcore.edgecontroller.overwritten import WrittenStatuses
from cloudcore.edgecontroller.pods import PodWriter
from cloudcore.edgecontroller.reports import NodeApi, RefusedError
from cloudcore.kube.client import KubeClient
from cloudcore.kube.errors import KubeConflictError, KubeForbiddenError
from cloudcore.kube.informer import Informers
from cloudcore.kube.resources import DEVICES, KubeObject
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from synccore.messages import Delta, ObjectKey

logger = logging.getLogger(__name__)

# One node's backlog after a long cut must not take the API server from the others. Per kind: what is being
# retried holds up its own kind only, and a heartbeat waits for nothing but the heartbeat before it.
WRITES_PER_NODE = 4
URGENT_KINDS = frozenset({"Lease", "Node"})
# Keys whose refusal was said already. Beyond it some are said twice, which is better than growing.
MAX_KNOWN_REFUSALS = 4096
BACKOFF_S = (0.5, 30.0)
# A request that was sent cannot be taken back: one whose node is lost meanwhile is waited for as long as that, so that
# what the node says on its next stream is not overtaken by it. A healthy API server answers in a hundredth of it.
SENT_S = 2.0


class _Writer(Protocol):
    async def write(self, node: str, delta: Delta) -> str: ...


class _Gone:
    """An `InformerHandler` that is told of ends only."""

    def __init__(self, forget: Callable[[ObjectKey], None]) -> None:
        self.on_delete = forget

    def on_upsert(self, obj: KubeObject) -> None:
        """`inspect` shows it whole."""

    def on_synced(self) -> None:
        """Nothing waits for that."""


class NodeReports:
    """The sink for Lease, Node, Pod, MirrorPod, Event and Loss reports (`KINDS`); all are written with the node's own rights.

    Writes of one key happen in the order they were handed over, whatever is retried.
    """

    KINDS = ("Lease", "Node", "Pod", "MirrorPod", "Event", "Loss")

    def __init__(
        self,
        informers: Informers,
        client: KubeClient,
        *,
        urgent: KubeClient | None = None,
        overwritten: Callable[[str], None] = lambda _node: None,
        database_of: Callable[[str], str] = lambda _node: "",
        endpoint_of: Callable[[str], Endpoint | None] = lambda _node: None,
        backoff_s: tuple[float, float] = BACKOFF_S,
    ) -> None:
        """Take the clients.

        Shapes:  urgent: for leases, with connections of its own; `client` if None. overwritten: called with a node
                 when somebody else wrote over the status of one of its pods.
        """
        api, self._backoff_s = NodeApi(client), backoff_s
        nodes, pods = nodes_informer(informers), pods_informer(informers)
        written = WrittenStatuses(overwritten)
        pods.inspect(written.look)
        pods.subscribe(_Gone(written.forget))
        self._writers: dict[str, _Writer] = {
            "Lease": LeaseWriter(NodeApi(urgent or client), nodes),
            "Node": NodeWriter(api, nodes, database_of, endpoint_of),
            "Pod": PodWriter(api, pods, written),
            "MirrorPod": MirrorWriter(api),
            "Event": EventWriter(api, pods, informers.of(DEVICES)),
            "Loss": LossWriter(api),
        }
        # Weak: a lock lives as long as somebody holds or awaits it.
        self._slots: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()
        self._locks: WeakValueDictionary[tuple[str, ObjectKey], asyncio.Lock] = (
            WeakValueDictionary()
        )
        self._refusals: dict[tuple[str, ObjectKey], RepeatedFault] = {}
        self._fault = RepeatedFault(logger, "writing reports of nodes")
        self._retrying = 0

    async def write(self, node: str, delta: Delta) -> None:
        """Return when the report is in the API, or can never be; see `ReportSink`."""
        kind = delta.key.kind
        writer = self._writers.get(kind)
        if writer is None:
            self._refuse(node, delta.key, "no such kind of report")
            metrics.reports.labels("other", "refused").inc()
            return
        lock = self._locks.setdefault((node, delta.key), asyncio.Lock())
        slot = self._slots.setdefault((node, kind), asyncio.Semaphore(WRITES_PER_NODE))
        async with lock, nullcontext() if kind in URGENT_KINDS else slot:
            result = await self._write_until_settled(writer, node, delta)
        metrics.reports.labels(delta.key.kind, result).inc()

    async def _write_until_settled(self, writer: _Writer, node: str, delta: Delta) -> str:
        backoff, failed = Backoff(*self._backoff_s), False
        try:
            while True:
                try:
                    result = await _to_its_end(writer.write(node, delta))
                    self._accept(node, delta.key, result)
                    return result
                except (RefusedError, ValueError, msgspec.DecodeError) as exc:
                    # ValueError: a name that no path can hold; DecodeError: an object with odd types
                    return self._refuse(node, delta.key, exc)
                except KubeApiError as exc:
                    if not _may_pass(exc):
                        return self._refuse(node, delta.key, exc, "invalid")
                    self._retrying += not failed
                    failed = True
                    self._fault.failed(f"{delta.key} of {node}: {exc}")
                    delay_s = max(backoff.next_delay_s(), exc.retry_after_s or 0.0)
                await asyncio.sleep(min(delay_s, backoff.maximum_s))
        finally:
            self._retrying -= failed
            if failed and not self._retrying:
                self._fault.cleared()

    def _accept(self, node: str, key: ObjectKey, result: str) -> None:
        if result == "dropped":
            logger.info("report of %s: %s dropped: its namespace is going", node, key)
        said = self._refusals.pop((node, key), None)
        if said is not None and result == "written":
            said.cleared()

    def _refuse(self, node: str, key: ObjectKey, why: object, result: str = "refused") -> str:
        if len(self._refusals) >= MAX_KNOWN_REFUSALS:
            self._refusals.clear()
        name = str(key)[:300]
        fault = self._refusals.setdefault(
            (node, key), RepeatedFault(logger, f"report of node {node}: {name} not written")
        )
        fault.failed(why)
        return result


async def _to_its_end(write: Coroutine[Any, Any, str]) -> str:
    """Return what `write` returns; if the caller is cancelled it still has `SENT_S` to end."""
    task = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=SENT_S)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it: its node is gone
        raise


def _may_pass(exc: KubeApiError) -> bool:
    if isinstance(exc, KubeForbiddenError):
        return exc.impersonation  # cloudcore's own missing right: an operator will grant it
    return exc.retryable or isinstance(exc, KubeConflictError)
