"""edgecore's `main()`: reads the settings and runs the components in dependency order."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import sys
import time
from functools import partial
from pathlib import Path

from corekit.daemon import run_daemon
from corekit.errors import SETTINGS, ConfigError
from corekit.lifecycle import Component, run_components
from edgecore.devicetwin.twins import DeviceTwin
from edgecore.edged.eviction.manager import EvictionManager
from edgecore.edged.images.janitor import Janitor
from edgecore.edged.images.puller import CredentialSource
from edgecore.edged.kubelet.documents import Documents
from edgecore.edged.kubelet.server import KubeletServer
from edgecore.edged.logs.rotator import LogRotator
from edgecore.edged.node.reporter import NodeReporter, node_address, node_resources
from edgecore.edged.pods.events import EventRecorder, EventSubject, NodeEvents
from edgecore.edged.pods.manager import Edged
from edgecore.edged.stats.collector import Collector
from edgecore.edged.stats.provider import NodeStats
from edgecore.edged.usage import MeteredRuntime
from edgecore.edgehub.applying import EventOf, Rejection
from edgecore.edgehub.client import EdgeHub
from edgecore.eventbus.broker import EmbeddedBroker
from edgecore.eventbus.bus import EventBus
from edgecore.eventbus.uploads import Uploads
from edgecore.metamanager.store import MetaStore
from edgecore.metrics import MetricsServer
from edgecore.metrics import render as render_metrics
from edgecore.records import Report
from edgecore.residency import Residency
from edgecore.samples.buffer import SampleBuffer
from edgecore.settings import DmiSettings, EdgeSettings, PodSettings
from synccore.codec import COMPILED

logger = logging.getLogger(__name__)

# Programs whose presence says that this machine has a runtime, even if its socket is not there yet at boot.
_CRI_PROGRAMS = ("containerd", "crio")


def main() -> int:
    """Run edgecore; return the exit status."""
    if sys.argv[1:2] == ["broker"]:
        from edgecore.eventbus.access_cli import main as broker

        return broker(sys.argv[2:])
    if sys.argv[1:2] == ["mapper"]:
        # Another program, which this one must not import: it takes over this process.
        os.execv(sys.executable, [sys.executable, "-m", "mappers", *sys.argv[2:]])  # noqa: S606
    return run_daemon("edgecore", EdgeSettings, serve)


async def serve(settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Run all components until `stop` is set. Nothing here waits for the network."""
    node = settings.node.name or socket.gethostname()
    logger.info("edgecore: node %s", node, extra={"codec": "compiled" if COMPILED else "python"})
    address = node_address(settings)
    store = MetaStore(Path(settings.store.path), settings.store, node_name=node)
    samples = SampleBuffer(store)
    hub = EdgeHub(settings.hub, node, store, samples=samples, event_of=rejection_events(node))
    runtime = choose_runtime(settings.pods, node)
    bus = EventBus(settings.broker, node)
    resources = await asyncio.to_thread(node_resources, settings)
    edged = Edged(
        settings.pods,
        node_name=node,
        store=store,
        runtime=runtime,
        address=address,
        allocatable=resources[1],
        uplink=hub,
        node_labels=settings.node.labels,
        providers=await asyncio.to_thread(credential_providers, settings.pods),
    )
    events = NodeEvents(EventRecorder(node, time.time), store, node)
    stats = node_stats(settings.pods, node, runtime, edged)
    janitor = Janitor(settings.pods, runtime, wanted=edged.images_wanted, tell=events.tell)
    eviction = EvictionManager(
        settings.pods,
        runtime,
        pods=edged.active,
        readings=partial(stats.snapshot, fresh=True),
        sweeper=janitor,
        tell=events.tell,
        pods_memory=edged.memory_of_pods,
    )
    reporter = NodeReporter(
        settings,
        node,
        store,
        hub,
        runtime,
        address=address,
        pressures=lambda: eviction.conditions,
        events=events,
    )
    documents = Documents(settings, store, runtime, edged, stats, render_metrics)
    kubelet = KubeletServer(store, runtime, edged, documents, Path(settings.pods.log_dir))
    hub.serve_streams(kubelet.serve)
    eviction.on_change(edged.admission.know_pressures)
    eviction.on_change(lambda _: reporter.look_again())
    components: list[Component] = [store]
    if settings.broker.url == "embedded":
        components.append(EmbeddedBroker(settings.broker))
    twins = DeviceTwin(store, bus, node, uplink=hub, samples=samples)
    components += [
        bus,
        Uploads(store, bus),
        twins,
        *device_interfaces(settings.dmi, store, twins),
        edged,
        eviction,
        janitor,
        LogRotator(settings.pods, runtime),
        reporter,
        hub,
        MetricsServer(settings.metrics, store.refresh_gauges),
        Residency(),
    ]
    try:
        await run_components(components, stop)
    finally:
        await runtime.close()


def device_interfaces(
    settings: DmiSettings, store: MetaStore, twins: DeviceTwin
) -> list[Component]:
    """Return what serves mappers, if they are to be served."""
    if not settings.socket:
        return []
    # Imported late: a node without mappers does not pay for their messages.
    from edgecore.dmi.server import DmiServer
    from edgecore.dmi.supervisor import MapperProcesses

    return [DmiServer(settings.socket, store, twins), MapperProcesses(settings)]


def credential_providers(settings: PodSettings) -> CredentialSource | None:
    """Return the programs that give credentials for registries, None if there are none; blocks. Raises: ConfigError."""
    if not settings.image_credential_provider_config:
        return None
    # Imported late: few nodes have any.
    from edgecore.edged.images.providerconfig import read_providers
    from edgecore.edged.images.providers import CredentialProviders

    folder = Path(settings.image_credential_provider_bin_dir)
    config = Path(settings.image_credential_provider_config)
    return CredentialProviders(read_providers(config, folder), folder)


def node_stats(
    settings: PodSettings, node: str, runtime: MeteredRuntime, edged: Edged
) -> NodeStats:
    """Return the node's stats: the `StatsProvider` of the kubelet endpoints."""
    collector = Collector(
        runtime,
        node,
        volume_root=Path(settings.root_dir) / "volumes",
        log_root=Path(settings.log_dir),
        disk_use_keep_s=settings.disk_use_interval_s,
        claims=edged.claims,
    )
    return NodeStats(collector)


def rejection_events(node: str) -> EventOf:
    """Return what makes the Event on this node for a record that it cannot keep."""
    recorder, subject = EventRecorder(node, time.time), EventSubject("Node", "", node, node)

    def event_of(rejection: Rejection) -> Report | None:
        message = f"{str(rejection.delta.key)[:300]} cannot be kept here: {rejection.reason}"
        return recorder.event(subject, "RecordRejected", message, warning=True)

    return event_of


def choose_runtime(settings: PodSettings, node: str) -> MeteredRuntime:
    """Return the runtime that the settings ask for; `auto` is CRI on a machine that has a CRI runtime.

    Not "if it answers now": at boot the agent may be first, and its pods must not run as processes by accident.
    """
    wanted = settings.runtime
    if wanted == "auto":
        has_cri = Path(settings.cri_socket).exists() or any(map(shutil.which, _CRI_PROGRAMS))
        wanted = "cri" if has_cri else "process"
        logger.info("edgecore: runtime %s", wanted)
    # Imported late: an agent pays for one of the two only.
    if wanted == "cri":
        from edgecore.edged.cri.runtime import CriRuntime

        return CriRuntime(settings.cri_socket, owner=node)
    from edgecore.edged.process.runtime import ProcessRuntime

    folder = Path(settings.root_dir) / "processes"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise ConfigError(SETTINGS, "pods.root_dir", f"{folder}: {exc.strerror}") from exc
    return ProcessRuntime(folder)
