"""What cloudcore counts, and the HTTPS endpoint where Prometheus reads it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography import x509
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest

from cloudcore.identities import NODE_PREFIX, NODES_GROUP
from cloudcore.settings import HubSettings, MetricsSettings
from corekit.errors import SETTINGS, ConfigError
from synccore.messages import Lane

logger = logging.getLogger(__name__)

# Labels are kinds, verbs and outcomes, never node or object names: those would grow without bound.
sent_objects = Counter("armadillo_objects_sent", "Deltas sent to nodes.", ["kind", "op"])
joins = Counter("armadillo_joins", "Nodes that joined, by what their digest said.", ["digest"])
reports = Counter(
    "armadillo_reports", "Reports of nodes, by what became of them.", ["kind", "result"]
)
losses = Counter(
    "armadillo_lost", "Log entries that nodes gave up before they were sent.", ["lane", "reason"]
)
samples = Counter("armadillo_samples", "Readings that came in blocks.")
sample_blocks = Counter("armadillo_sample_blocks", "Blocks of readings.")
history_values = Counter("armadillo_history_values", "Readings kept for looking back.")
history_dropped = Counter(
    "armadillo_history_dropped",
    "Readings not kept, or no longer: slow (disk), disk (full or failing), full (history's own limit).",
    ["reason"],
)
history_bytes = Gauge("armadillo_history_bytes", "Bytes of the file of kept readings in use.")
values_dropped = Counter(
    "armadillo_values_dropped", "Readings that a slow reader did not get.", ["reader"]
)
api_requests = Counter("armadillo_api_requests", "Kubernetes API requests.", ["verb", "code"])
device_writes = Counter(
    "armadillo_device_writes", "Writes of Device status, by what changed.", ["what"]
)
device_status_writes = Counter(
    "armadillo_device_status_object_writes", "Writes of DeviceStatus objects."
)
device_write_rate = Gauge(
    "armadillo_device_writes_allowed", "Writes of Device status a second that the API server takes."
)
relists = Counter("armadillo_relists", "Complete lists of one resource.", ["resource"])
certificate_until = Gauge(
    "armadillo_certificate_expiry_timestamp_seconds", "Until when the hub's certificate is valid."
)
watch_restarts = Counter("armadillo_watch_restarts", "Watches started.", ["resource"])

node_requests = Counter(
    "armadillo_nodeproxy_requests",
    "Requests to the kubelet's API of nodes, by what was asked for and HTTP status (101: a stream).",
    ["what", "code"],
)
node_streams = Gauge("armadillo_nodeproxy_streams", "Upgraded connections that are open now.")
node_bytes = Counter(
    "armadillo_nodeproxy_bytes", "Bytes of answers and streams (up: from the edge).", ["direction"]
)

_WAY_AND_LANE = ["direction", "lane"]
frames = Counter(
    "armadillo_sync_frames", "Frames, by direction (up: from the edge).", _WAY_AND_LANE
)
deltas = Counter("armadillo_sync_deltas", "Deltas in frames.", _WAY_AND_LANE)
batch_bytes = Counter("armadillo_sync_bytes", "Bytes of batches on the wire.", _WAY_AND_LANE)
lag = Gauge(
    "armadillo_sync_lag_seconds",
    "Age of the oldest unacknowledged frame of any node.",
    _WAY_AND_LANE,
)
sessions = Gauge("armadillo_sessions", "Nodes that are joined now.")
joins_waiting = Gauge("armadillo_joins_waiting", "Nodes that have a turn to join and are not in.")
session_ends = Counter("armadillo_session_ends", "Streams that ended, by code.", ["code"])
set_aside = Counter("armadillo_records_set_aside", "Records a node could not keep.", ["kind"])
# A kind that a node names; only these become labels.
_KINDS = frozenset(
    {
        *("Pod", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume"),
        *("Service", "RuntimeClass", "Device", "DeviceModel"),
    }
)


class PrometheusCounters:
    """`HubCounters` over prometheus_client."""

    def sent(self, kind: str, op: str, count: int) -> None:
        """Count deltas sent downstream."""
        sent_objects.labels(kind, op).inc(count)

    def joined(self, *, in_sync: bool) -> None:
        """Count a node that joined."""
        joins.labels("in_sync" if in_sync else "resync").inc()

    def moved(
        self, direction: str, lane: Lane, frame_count: int, delta_count: int, size_bytes: int
    ) -> None:
        """Count what went over the wire in a lane."""
        labels = (direction, lane.name.lower())
        if frame_count:
            frames.labels(*labels).inc(frame_count)
            batch_bytes.labels(*labels).inc(size_bytes)
        if delta_count:
            deltas.labels(*labels).inc(delta_count)

    def ended(self, code: str) -> None:
        """Count a stream that ended."""
        session_ends.labels(code).inc()

    def set_aside(self, kind: str) -> None:
        """Count a record that a node could not keep."""
        set_aside.labels(kind if kind in _KINDS else "other").inc()

    def gauge(
        self, session_count: int, waiting_count: int, lags_s: dict[tuple[str, Lane], float]
    ) -> None:
        """Note sessions, joins that wait, and lags."""
        sessions.set(session_count)
        joins_waiting.set(waiting_count)
        for (direction, lane), lag_s in lags_s.items():
            lag.labels(direction, lane.name.lower()).set(lag_s)


class MetricsServer:
    """Serve `/metrics` over HTTPS to clients with a certificate of the hub's authority, but not to nodes.

    Not prometheus_client's own server: it shakes hands in its accept loop, so one silent peer blocks it.
    """

    name = "metrics"

    def __init__(self, settings: MetricsSettings, hub: HubSettings) -> None:
        self._settings, self._hub = settings, hub
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        if not self._settings.address:
            return self
        host, port = _host_and_port(self._settings.address)
        app = web.Application()
        app.router.add_get("/metrics", _serve)
        # The daemon stops within 10 s, and a scrape takes milliseconds.
        certificate_until.set(_until_s(Path(self._hub.cert_file)))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runner = runner
        site = web.TCPSite(runner, host, port, ssl_context=_server_tls(self._hub))
        try:
            await site.start()
        except OSError as exc:
            problem = f"{self._settings.address}: {exc.strerror or exc}"
            raise ConfigError(SETTINGS, "metrics.address", problem) from exc
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def port(self) -> int:
        """The port it listens on: the system's choice if the settings say 0."""
        assert self._runner is not None, "the metrics server is not started"
        return int(self._runner.addresses[0][1])

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()


async def _serve(request: web.Request) -> web.Response:
    shown = request.transport and request.transport.get_extra_info("peercert")
    if not shown or _is_node(
        shown
    ):  # a gateway that is in wrong hands learns nothing of the others
        raise web.HTTPForbidden(text="certificates of nodes open the hub's port only\n")
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _until_s(certificate: Path) -> float:
    try:
        return x509.load_pem_x509_certificate(
            certificate.read_bytes()
        ).not_valid_after_utc.timestamp()
    except (OSError, ValueError):  # said, with the file's name, by whoever serves with it
        return 0.0


def _is_node(certificate: Mapping[str, Any]) -> bool:
    names = [value for part in certificate.get("subject", ()) for _, value in part]
    return any(name.startswith(NODE_PREFIX) or name == NODES_GROUP for name in names)


def _server_tls(hub: HubSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(hub.cert_file, hub.key_file)
        context.load_verify_locations(hub.client_ca_file)
    except (OSError, ssl.SSLError) as exc:
        files = f"{hub.cert_file}, {hub.key_file}, {hub.client_ca_file}"
        raise ConfigError(SETTINGS, "hub.cert_file", f"one of {files}: {exc}") from exc
    return context


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(SETTINGS, "metrics.address", f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
