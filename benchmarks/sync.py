"""The sync path at rate: the codec by itself, then values from an edge node to a subscriber at the cloud.

    python benchmarks/sync.py [--json] [--runs 5] [--seconds 3] [--probes 1000]

Two processes on loopback, gRPC with mutual TLS, a real SQLite file with `synchronous=FULL`, the parts that edgecore
and cloudcore have. Every figure is the median of the runs; the limits (bare gRPC, bare SQLite) are measured between
them, on the same machine and disk. The database lies in a temporary folder: set TMPDIR to measure another disk.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop
from figures import Figure, publish, spoken, table
from sync_codec import codec_figures, record_rates, sqlite_rows_per_s
from sync_edge import BACKGROUND_PER_S, Site, percentile, site

from synccore.codec import COMPILED

EXIT_USAGE = 2


async def path_figures(runs: int, duration_s: float, probes: int) -> tuple[list[Figure], str]:
    """Return the figures of the whole path, and the spread and the delays by direction for people."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="armadillo-") as name:
        folder = Path(name)
        async with site(folder) as parts:
            bytes_per_delta = await parts.wire_bytes_per_reading()
            for _ in range(runs):
                for what, rate in (await _one_run(parts, duration_s)).items():
                    rates.setdefault(what, []).append(rate)
            delays_ms = await parts.latencies(probes)
        rates["limit.sqlite"] = []
        for run in range(runs):
            (folder / f"{run}").mkdir()
            rates["limit.sqlite"].append(sqlite_rows_per_s(folder / f"{run}", duration_s / 2))
    units = {"limit.grpc": "bytes/s", "limit.sqlite": "rows/s"}
    medians = {what: statistics.median(found) for what, found in rates.items()}
    figures = [Figure(what, rate, units.get(what, "deltas/s")) for what, rate in medians.items()]
    figures.append(Figure("sync.bytes_per_delta", bytes_per_delta, "bytes"))
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        worst_ms = max(percentile(found, share) for found in delays_ms.values())
        figures.append(Figure(f"sync.latency.{label}", worst_ms, "ms"))
    return figures, _details(rates, delays_ms)


async def _one_run(parts: Site, duration_s: float) -> dict[str, float]:
    return {
        "sync.upstream.memory": await parts.memory(duration_s),
        "sync.upstream.durable": await parts.durable(duration_s),
        "limit.grpc": await parts.raw_bytes_per_s(duration_s / 2),
    }


def _details(rates: dict[str, list[float]], delays_ms: dict[str, list[float]]) -> str:
    spread = [
        (what, *map(spoken, (min(found), statistics.median(found), max(found))))
        for what, found in rates.items()
    ]
    delays = [
        (what, *(f"{percentile(found, share):.2f}" for share in (0.5, 0.9, 0.99)), str(len(found)))
        for what, found in delays_ms.items()
    ]
    background = f"one delta, ms, at {BACKGROUND_PER_S:,} readings/s"
    return "\n\n".join(
        (
            table(("spread of the runs", "least", "median", "most"), spread),
            table((background, "p50", "p90", "p99", "probes"), delays),
        )
    )


def record_codec(runs: int) -> str:
    """Return a table of the other codec, that of records with bodies, for people."""
    header = ("records of 200 bytes, deltas/s", "compiled", "Python")
    return table(header, [(what, *map(spoken, rates)) for what, *rates in record_rates(runs)])


def main() -> int:
    """Return the exit status: 0, or 2 if the compiled codec is missing."""
    parser = argparse.ArgumentParser(description="the sync path at rate")
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default: 3)")
    parser.add_argument("--probes", type=int, default=1000, help="single deltas (default: 1000)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if not COMPILED:
        print("sync: the compiled codec is missing (SYNCCORE_PUREPY=1?)", file=sys.stderr)
        return EXIT_USAGE
    codec = codec_figures(arguments.runs)
    path, details = uvloop.run(path_figures(arguments.runs, arguments.seconds, arguments.probes))
    notes = f"{record_codec(arguments.runs)}\n\n{details}"
    publish("The sync path at rate", [*codec, *path], as_json=arguments.json, notes=notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
