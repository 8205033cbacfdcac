"""What edgecore counts, and the unix socket where Prometheus' text format is read.

Own code instead of prometheus_client: that costs 3 MiB on a gateway, and the format is a page of text.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Self

from corekit.errors import SETTINGS, ConfigError, StoreError
from edgecore.settings import MetricsSettings

logger = logging.getLogger(__name__)

# A request is one line and a few headers; who sends more is not scraping.
_MAX_REQUEST_BYTES = 8 << 10
_TIMEOUT_S = 2.0
_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
# sun_path of Linux, with its final NUL.
_MAX_SOCKET_PATH_BYTES = 107
Labels = tuple[str, ...]


class Metric:
    """Numbers of one name by their label values; labels are lanes and reasons, never names of objects."""

    def __init__(self, kind: str, name: str, text: str, labels: Labels = ()) -> None:
        self.kind, self.name, self.text, self.labels = kind, name, text, labels
        self.values: dict[Labels, float] = {} if labels else {(): 0.0}

    def inc(self, amount: float = 1.0, *labels: str) -> None:
        """Add to a number."""
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def set(self, amount: float, *labels: str) -> None:
        """Replace a number."""
        self.values[labels] = amount

    def lines(self) -> Iterable[str]:
        """Return the metric in the text format."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_braced(self.labels, labels)} {_number(value)}"


class Histogram:
    """How often a number was at most each of some limits."""

    def __init__(self, name: str, text: str, limits: tuple[float, ...]) -> None:
        self.name, self.text, self._limits = name, text, limits
        self._counts = [0] * (len(limits) + 1)
        self._sum = 0.0

    def observe(self, number: float) -> None:
        """Count one number."""
        self._sum += number
        at = sum(limit < number for limit in self._limits)
        self._counts[at] += 1

    def lines(self) -> Iterable[str]:
        """Return the histogram in the text format."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} histogram"
        total = 0
        for limit, count in zip((*map(_number, self._limits), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{limit}"}} {total}'
        yield f"{self.name}_sum {_number(self._sum)}"
        yield f"{self.name}_count {total}"


outbox_rows = Metric(
    "gauge",
    "armadillo_edge_outbox_rows",
    "Reports that wait for the cloud.",
    ("lane", "sort"),
)
outbox_bytes = Metric("gauge", "armadillo_edge_outbox_bytes", "Their size.", ("lane", "sort"))
outbox_oldest = Metric(
    "gauge",
    "armadillo_edge_outbox_oldest_seconds",
    "Age of the oldest unacknowledged report.",
    ("lane",),
)
losses = Metric("counter", "armadillo_edge_lost_total", "Log entries given up.", ("lane", "reason"))
commits = Metric("counter", "armadillo_edge_commits_total", "Commits made durable.")
refused_commits = Metric("counter", "armadillo_edge_commits_failed_total", "Commits that failed.")
rebuilds = Metric("counter", "armadillo_edge_store_rebuilds_total", "Damaged databases made anew.")
group_size = Histogram(
    "armadillo_edge_commits_per_fsync", "Commits that shared one fsync.", (1, 2, 4, 8, 16, 64, 256)
)
dials = Metric("counter", "armadillo_edge_dials_total", "Attempts to reach cloudcore.")
certificate_until = Metric(
    "gauge",
    "armadillo_edge_certificate_expiry_timestamp_seconds",
    "Until when the node's certificate is valid, as of the last dial.",
)
joins = Metric(
    "counter",
    "armadillo_edge_joins_total",
    "Sessions joined, by what the digest said.",
    ("digest",),
)
frames = Metric(
    "counter", "armadillo_edge_frames_total", "Frames of deltas.", ("direction", "lane")
)
deltas = Metric("counter", "armadillo_edge_deltas_total", "Deltas in them.", ("direction", "lane"))
frame_bytes = Metric(
    "counter", "armadillo_edge_frame_bytes_total", "Bytes of batches.", ("direction", "lane")
)

overtaken = Metric(
    "counter",
    "armadillo_edge_readings_overtaken_total",
    "Readings that mappers gave up for newer ones, because this agent did not keep up.",
)

ALL: tuple[Metric | Histogram, ...] = (
    outbox_rows,
    outbox_bytes,
    outbox_oldest,
    losses,
    commits,
    refused_commits,
    rebuilds,
    group_size,
    dials,
    certificate_until,
    joins,
    overtaken,
    frames,
    deltas,
    frame_bytes,
)


def render() -> str:
    """Return everything in the text format."""
    return "\n".join(line for metric in ALL for line in metric.lines()) + "\n"


class MetricsServer:
    """Component: answers every HTTP request on the socket with the metrics; `refresh` is awaited before."""

    name = "metrics"

    def __init__(self, settings: MetricsSettings, refresh: Callable[[], Awaitable[None]]) -> None:
        self._path, self._refresh = settings.socket, refresh
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        """Bind the socket. Raises: ConfigError."""
        if self._path:
            listening = _bind(self._path)
            self._server = await asyncio.start_unix_server(
                self._answer, sock=listening, limit=_MAX_REQUEST_BYTES
            )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Remove the socket; answers under way are cut, a scrape takes milliseconds."""
        if self._server is not None:
            self._server.close()
            _unlink(self._path)

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await reader.readuntil(b"\r\n\r\n")
                await self._refresh()
                body = render().encode()
                writer.write(_HEAD % len(body) + body)
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError, StoreError) as exc:
            logger.debug("metrics request not answered: %r", exc)
        finally:
            writer.close()


def _bind(path: str) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        problem = f"longer than {_MAX_SOCKET_PATH_BYTES} bytes: {path}"
        raise ConfigError(SETTINGS, "metrics.socket", problem)
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)  # from the first moment nobody else's
    try:
        if Path(path).is_socket():  # of a run that was killed
            Path(path).unlink()
        listening.bind(path)
    except OSError as exc:
        listening.close()
        problem = f"{path}: {exc.strerror or exc}"
        raise ConfigError(SETTINGS, "metrics.socket", problem) from exc
    finally:
        os.umask(mask)
    return listening


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)


def _braced(names: Labels, values: Labels) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
