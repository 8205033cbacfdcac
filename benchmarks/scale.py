"""How many nodes one cloudcore serves: memory of each, the storm after a cut, 150,000 pods, the cost of a resume.

    python benchmarks/scale.py [--json] [--nodes 5000] [--pods 150000] [--objects 10000] [--only PART ...]

Parts: nodes (memory and storm against a hub with made-up records), resume (one node, a proxy counts the bytes),
api (the same storm against a real cloudcore and kubecore, whose requests are counted), pods (a real cloudcore
starts on a kubecore that holds all the pods). Nodes are simulated: real connections, each with a certificate and
TLS of its own, and the real edge hub, without SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import Figure, publish
from processes import MIB
from scale_cluster import Cluster
from scale_parts import FLEETS, Fleet, Hub, NodeCertificates, rss_bytes

from tests.fakes.tcp_proxy import DOWN, UP, TcpProxy  # found by scale_parts

PARTS = ("nodes", "resume", "api", "pods")
JOIN_TIMEOUT_S = 300.0
SETTLE_S = 10.0
# So long after a storm nobody may come back again, or it was not over.
WATCH_S = 15.0
# Nodes of the run against a real Kubernetes API, which writes each node's lease: 500 a second would be its limit.
API_NODES = 500


def measure_nodes(folder: Path, count: int) -> tuple[list[Figure], str]:
    """Return memory of an idle node and the time of the storm."""
    pki = NodeCertificates(folder, count)
    with Hub(pki.folder, count, records=0) as hub:
        # The first nodes pay for what all share: modules, pools, buffers.
        with Fleet(pki.folder, hub.address, 0, min(50, count)) as first:
            first.wait_in_sync(JOIN_TIMEOUT_S)
            time.sleep(2)
            base_bytes = rss_bytes(hub.pid)
        hub.wait(lambda s: s["sessions"] == 0, 30)
        begun_s = time.monotonic()
        with Fleet(pki.folder, hub.address, 0, count, processes=FLEETS) as fleet:
            joined_s = fleet.wait_in_sync(JOIN_TIMEOUT_S) - begun_s
            time.sleep(SETTLE_S)
            idle_bytes = rss_bytes(hub.pid)
            cpu = hub.cpu_share(5.0)
            before = hub.last
            cut_s = time.monotonic()
            fleet.command("cut")
            storm_s = fleet.wait_in_sync(JOIN_TIMEOUT_S, after_s=cut_s) - cut_s
            peak_bytes = rss_bytes(hub.pid)
            # The hub counts its sessions once a second and says so once a second: what it said before is old.
            hub.wait(lambda s: s["at_s"] > cut_s + storm_s + 2.5 and s["sessions"] == count, 30)
            joins, storm_cpu_s = hub.last["joins"], hub.last["cpu_s"] - before["cpu_s"]
            time.sleep(WATCH_S)
            after = hub.last
    second_wave = after["joins"] - joins
    refused = after["ends"].get("NOT_NOW", 0) - before["ends"].get("NOT_NOW", 0)
    per_node_kib = (idle_bytes - base_bytes) / 1024 / count
    figures = [
        Figure("scale.rss_per_node", per_node_kib, "KiB"),
        Figure("scale.storm.seconds", storm_s, "s"),
        Figure("scale.storm.second_wave", second_wave, "joins"),
        Figure("scale.storm.hub_cpu", storm_cpu_s, "s"),
        Figure("scale.storm.rss", peak_bytes / MIB, "MiB"),
        Figure("scale.first_join.seconds", joined_s, "s"),
        Figure("scale.idle_cpu", cpu * 100, "% of a core"),
    ]
    return (
        figures,
        f"{count} nodes; {refused} were given a turn; hub at {base_bytes / MIB:.0f} MiB before.",
    )


async def measure_resume(folder: Path, objects: int) -> tuple[list[Figure], str]:
    """Return bytes on the wire, TLS and all, and time, of a reconnect after k of `objects` changed."""
    pki = NodeCertificates(folder, 1)
    figures = []
    with Hub(pki.folder, 1, records=objects) as hub:
        host, _, port = hub.address.rpartition(":")
        async with TcpProxy(host, int(port)) as proxy:
            with Fleet(pki.folder, proxy.address, 0, 1) as fleet:
                await asyncio.to_thread(fleet.wait_in_sync, JOIN_TIMEOUT_S)
                figures.append(
                    Figure("sync.resume.bytes.all", sum(proxy.passed_bytes.values()), "bytes")
                )
                for changed in (0, 10, 1000):
                    await asyncio.to_thread(fleet.command, "pause")
                    await asyncio.sleep(0.5)
                    hub.command(f"change {changed}")
                    await asyncio.sleep(0.5)
                    before = dict(proxy.passed_bytes)
                    begun_s = time.monotonic()
                    await asyncio.to_thread(fleet.command, "resume")
                    ended_s = await asyncio.to_thread(fleet.wait_in_sync, 60.0, after_s=begun_s)
                    await asyncio.sleep(0.3)
                    moved = {way: proxy.passed_bytes[way] - before[way] for way in (UP, DOWN)}
                    name = f"k{changed}"
                    figures += [
                        Figure(f"sync.resume.bytes.{name}", sum(moved.values()), "bytes"),
                        Figure(f"sync.resume.ms.{name}", (ended_s - begun_s) * 1000, "ms"),
                    ]
    return (
        figures,
        f"{objects} objects at the edge; bytes both ways, with TCP's payload of TLS and its handshake.",
    )


def measure_api(folder: Path, count: int) -> tuple[list[Figure], str]:
    """Return how many requests a storm costs the Kubernetes API, leases included."""
    with (
        Cluster(folder, nodes=count, pods=count * 10) as cluster,
        Fleet(cluster.pki.folder, cluster.hub_address, 0, count, processes=FLEETS) as fleet,
    ):
        fleet.wait_in_sync(JOIN_TIMEOUT_S)
        time.sleep(SETTLE_S)
        idle = cluster.peak_requests_per_s(SETTLE_S)
        cut_s = time.monotonic()
        fleet.command("cut")
        peak = cluster.peak_requests_per_s(SETTLE_S)
        storm_s = fleet.wait_in_sync(JOIN_TIMEOUT_S, after_s=cut_s) - cut_s
    figures = [
        Figure("scale.api.idle_peak", idle, "requests/s"),
        Figure("scale.api.storm_peak", peak, "requests/s"),
        Figure("scale.api.storm.seconds", storm_s, "s"),
    ]
    return figures, f"{count} nodes with 10 pods each, cloudcore and kubecore as processes."


def measure_pods(folder: Path, count: int, pods: int) -> tuple[list[Figure], str]:
    """Return the time from the start of cloudcore until every node holds its pods, and cloudcore's memory."""
    with (
        Cluster(folder, nodes=count, pods=pods, start_cloudcore=False) as cluster,
        Fleet(cluster.pki.folder, cluster.hub_address, 0, count, processes=FLEETS) as fleet,
    ):
        time.sleep(5)  # everybody is dialling a port that nobody serves
        begun_s = time.monotonic()
        cluster.start_cloudcore()
        took_s = fleet.wait_in_sync(JOIN_TIMEOUT_S, after_s=begun_s, records=pods) - begun_s
        rss = rss_bytes(cluster.cloudcore_pid)
        kube = rss_bytes(cluster.kubecore_pid)
        restart_s = time.monotonic()
        cluster.stop_cloudcore()
        cluster.start_cloudcore()
        again_s = fleet.wait_in_sync(JOIN_TIMEOUT_S, after_s=restart_s + 2, records=pods)
        again_s -= restart_s
    figures = [
        Figure("scale.pods150k.seconds", took_s, "s"),
        Figure("scale.pods150k.rss", rss / MIB, "MiB"),
        Figure("scale.pods150k.restart.seconds", again_s, "s"),
    ]
    return figures, f"{pods} pods over {count} nodes; kubecore held them in {kube / MIB:.0f} MiB."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=150_000)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--api-nodes", type=int, default=API_NODES)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    parts: dict[str, Any] = {
        "nodes": lambda folder: measure_nodes(folder, given.nodes),
        "resume": lambda folder: asyncio.run(measure_resume(folder, given.objects)),
        "api": lambda folder: measure_api(folder, given.api_nodes),
        "pods": lambda folder: measure_pods(folder, given.nodes, given.pods),
    }
    for name in given.only:
        with tempfile.TemporaryDirectory(prefix="armadillo-scale-") as folder:
            figures, notes = parts[name](Path(folder))
        publish(f"scale: {name}", figures, as_json=given.json, notes=notes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
