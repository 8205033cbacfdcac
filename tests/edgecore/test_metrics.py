"""The metrics of the edge: the text format, and the socket as curl sees it."""

import asyncio
import socket

import pytest

from corekit.errors import ConfigError
from edgecore import metrics
from edgecore.metamanager.store import MetaStore
from edgecore.metrics import Histogram, Metric, MetricsServer
from edgecore.records import Commit, Report
from edgecore.settings import MetricsSettings
from synccore.messages import Lane, ObjectKey, Op


async def nothing():
    pass


async def scrape(path, request=b"GET /metrics HTTP/1.1\r\nHost: edge\r\n\r\n"):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer.decode()


def test_numbers_are_written_in_the_text_format():
    metric = Metric("counter", "x_total", "Some.", ("lane", "reason"))
    metric.inc(2, "samples", "thin")
    metric.inc(0.5, "samples", "thin")
    assert list(metric.lines()) == [
        "# HELP x_total Some.",
        "# TYPE x_total counter",
        'x_total{lane="samples",reason="thin"} 2.5',
    ]


def test_a_histogram_counts_what_is_at_most_each_limit():
    histogram = Histogram("h", "Sizes.", (1, 4))
    for number in (1, 1, 3, 9):
        histogram.observe(number)
    assert list(histogram.lines())[2:] == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="4"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 14",
        "h_count 4",
    ]


async def test_the_outbox_is_measured_per_lane_and_told_on_the_socket(tmp_path):
    path = tmp_path / "metrics.sock"
    key = ObjectKey("Sample", "default", "s")
    async with (
        MetaStore(tmp_path / "edge.db") as store,
        MetricsServer(MetricsSettings(str(path)), store.refresh_gauges),
    ):
        logs = [Report(key, "", b"x" * 100, Lane.SAMPLES, Op.APPEND)] * 3
        await store.commit(Commit(reports=[*logs, Report(key, "", b"{}", Lane.PODS)]))
        answer = await scrape(path)
        assert path.stat().st_mode & 0o777 == 0o600
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.0 200")
    assert f"Content-Length: {len(body)}" in head
    assert 'armadillo_edge_outbox_rows{lane="samples",sort="log"} 3' in body
    assert 'armadillo_edge_outbox_rows{lane="pods",sort="state"} 1' in body
    assert 'armadillo_edge_outbox_rows{lane="pods",sort="log"} 0' in body
    assert 'armadillo_edge_outbox_oldest_seconds{lane="samples"}' in body
    assert not path.exists()


async def test_a_request_that_is_none_is_cut_and_the_next_is_answered(tmp_path):
    path = tmp_path / "m.sock"
    async with MetricsServer(MetricsSettings(str(path)), nothing):
        assert await scrape(path, b"x" * 100_000) == ""
        assert "armadillo_edge_commits_total" in await scrape(path)


async def test_the_socket_of_a_run_that_was_killed_is_replaced(tmp_path):
    path = tmp_path / "m.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with MetricsServer(MetricsSettings(str(path)), nothing):
        assert await scrape(path)


@pytest.mark.parametrize("where", ["/nowhere/m.sock", "x" * 200])
async def test_a_socket_that_cannot_be_is_named(where):
    with pytest.raises(ConfigError, match=f"metrics.socket: .*{where[:10]}"):
        async with MetricsServer(MetricsSettings(where), nothing):
            pass


async def test_a_file_in_its_place_is_left_alone(tmp_path):
    path = tmp_path / "m.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="in use"):
        async with MetricsServer(MetricsSettings(str(path)), nothing):
            pass
    assert path.read_text() == "precious"


def test_no_metric_has_the_same_name_twice():
    names = [metric.name for metric in metrics.ALL]
    assert len(set(names)) == len(names)
