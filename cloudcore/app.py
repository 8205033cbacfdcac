"""cloudcore's `main()`: reads the settings and runs the components in dependency order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from cloudcore.cloudhub.asks import AskRouter
from cloudcore.cloudhub.fence import DatabaseFence
from cloudcore.cloudhub.server import CloudHub
from cloudcore.devicecontroller.controller import DeviceController
from cloudcore.devicecontroller.mirror import StatusMirror, fingerprint
from cloudcore.edgecontroller import nodefacts, tokens
from cloudcore.edgecontroller.controller import EdgeController, nodes_informer
from cloudcore.edgecontroller.reports import NodeApi
from cloudcore.edgecontroller.upstream import NodeReports
from cloudcore.history.keeper import History
from cloudcore.kube.client import KubeClient
from cloudcore.kube.informer import Informers
from cloudcore.kube.kubeconfig import load_endpoint
from cloudcore.kube.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from cloudcore.metrics import MetricsServer, PrometheusCounters
from cloudcore.nodeproxy.server import NodeProxy
from cloudcore.samples import SampleFanout
from cloudcore.seams import ReportSink
from cloudcore.settings import CloudSettings
from cloudcore.valuestream.access import Gate
from cloudcore.valuestream.messages import MessageBroker, MessageHub
from cloudcore.valuestream.mqtt import MqttSink
from cloudcore.valuestream.seen import LastSeen
from cloudcore.valuestream.server import ValueServer
from corekit.collector import expect_long_lives
from corekit.daemon import run_daemon
from corekit.lifecycle import Component, run_components
from synccore.codec import COMPILED
from synccore.messages import Delta

logger = logging.getLogger(__name__)


def main() -> int:
    """Run cloudcore; return the exit status."""
    return run_daemon("cloudcore", CloudSettings, serve)


async def serve(settings: CloudSettings, stop: asyncio.Event) -> None:
    """Run all components until `stop` is set."""
    expect_long_lives()
    logger.info("cloudcore: starting", extra={"codec": "compiled" if COMPILED else "python"})
    endpoint = await asyncio.to_thread(load_endpoint, settings.kube.kubeconfig)
    # Leases have connections of their own: heartbeats must not wait behind the writes of a thousand pods.
    async with KubeClient(endpoint) as client, KubeClient(endpoint) as urgent:
        informers = Informers(client, settings.kube)
        controller = EdgeController(informers, client, settings.kube)
        fence = DatabaseFence(controller.recorded_database)
        proxy = NodeProxy(settings.nodeproxy, client, controller.recorded_endpoint)
        reports = NodeReports(
            informers,
            client,
            urgent=urgent,
            overwritten=controller.status_overwritten,
            database_of=fence.annotation,
            endpoint_of=proxy.endpoint_of,
        )
        devices = DeviceController(
            client,
            settings.devices,
            devices=informers.of(DEVICES),
            models=informers.of(DEVICE_MODELS),
            nodes=nodes_informer(informers),
        )
        mirrors: list[Component] = []
        if settings.devices.device_statuses:
            shrunk = informers.of(DEVICE_STATUSES, shrink=fingerprint)
            mirrors = [
                StatusMirror(
                    client, settings.devices, devices=informers.of(DEVICES), mirrors=shrunk
                )
            ]
        seen = LastSeen(informers.of(DEVICES), time.time)
        fanout = SampleFanout(seen.note)
        broker = MessageBroker(settings.mqtt_sink) if settings.mqtt_sink.url else None
        messages = MessageHub(broker)
        history = History(
            settings.values,
            fanout,
            devices=informers.of(DEVICES),
            models=informers.of(DEVICE_MODELS),
            clock=time.time,
        )
        values = ValueServer(
            settings.values,
            settings.hub,
            fanout=fanout,
            history=history,
            gate=Gate(client),
            messages=messages,
            seen=seen,
        )
        sinks: list[Component] = []
        if broker:
            sinks = [MqttSink(settings.mqtt_sink, fanout), broker]
        hub = CloudHub(
            settings.hub,
            source=controller,
            sink=ReportRouter(reports, {"Device": devices, messages.KIND: messages}),
            counters=PrometheusCounters(),
            fence=fence,
            samples=fanout,
            watcher=proxy,
            gate=controller.revocations,
            asks=AskRouter(
                {
                    tokens.KIND: tokens.TokenRequests(NodeApi(client)).answer,
                    nodefacts.KIND: nodefacts.NodeFacts(nodes_informer(informers)).answer,
                }
            ),
        )
        proxy.reach(hub)
        await run_components(
            [
                MetricsServer(settings.metrics, settings.hub),
                informers,
                controller,
                devices,
                *mirrors,
                history,
                values,
                *sinks,
                proxy,
                hub,
            ],
            stop,
        )


class ReportRouter:
    """`ReportSink` that hands some kinds to sinks of their own and everything else to one that refuses what it must."""

    def __init__(self, nodes: ReportSink, others: Mapping[str, ReportSink]) -> None:
        self._nodes, self._others = nodes, others

    async def write(self, node: str, delta: Delta) -> None:
        """Return when the report is durable or can never be."""
        await self._others.get(delta.key.kind, self._nodes).write(node, delta)
