"""History at rate: what keeping every value costs cloudcore, and how long its event loop is held up by it.

    python benchmarks/history.py [--json] [--seconds 20] [--rate 200000] [--series 100,10000]

cloudcore's History over a real file, fed as the sync path feeds it, at a steady rate; beside it a timer that measures
how late the loop is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from array import array

from figures import Figure, publish

from cloudcore import metrics
from cloudcore.history.keeper import History
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_MODELS, DEVICES, read_object
from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import ValueSettings
from synccore.series import Readings, Series

PROPERTIES, BLOCK = 10, 20_000
TICK_S = 0.005
ORIGIN = SampleOrigin("edge-1", bytes(16), 0)


def devices(count: int) -> Informer:
    """Return a cache of devices that keep every property for a week."""
    cache = Informer(DEVICES)
    kept = [{"name": f"p{n}", "history": {"keepSeconds": 604_800}} for n in range(PROPERTIES)]
    for number in range(count):
        metadata = {"name": f"d-{number}", "namespace": "default", "uid": str(number)}
        spec = {"deviceModelRef": {"name": "m"}, "nodeName": "edge-1", "properties": kept}
        body = {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device"}
        document = {**body, "metadata": metadata, "spec": spec}
        cache.upsert(read_object("Device", json.dumps(document).encode()))
    cache.mark_synced()
    return cache


async def lateness(late_ms: list[float]) -> None:
    """Note how late the loop wakes up, until cancelled."""
    while True:
        begun_s = time.perf_counter()
        await asyncio.sleep(TICK_S)
        late_ms.append((time.perf_counter() - begun_s - TICK_S) * 1000)


async def feed(fanout: SampleFanout, series_count: int, rate: float, seconds: float) -> int:
    """Hand out blocks at a rate; return how many values."""
    names = [
        Series(f"default/d-{n // PROPERTIES}", f"p{n % PROPERTIES}") for n in range(series_count)
    ]
    series = array("I", [n % series_count for n in range(BLOCK)])
    begun_s, sent = time.perf_counter(), 0
    while time.perf_counter() - begun_s < seconds:
        times = array("q", [int(time.time() * 1000)]) * BLOCK
        values = array("d", [sent % 997 / 10]) * BLOCK
        await fanout.take(ORIGIN, Readings(names, series, times, values))
        sent += BLOCK
        await asyncio.sleep(max(0.0, begun_s + sent / rate - time.perf_counter()))
    return sent


async def measure(series_count: int, rate: float, seconds: float) -> list[Figure]:
    """Keep values of so many series; return what it cost."""
    with tempfile.TemporaryDirectory(prefix="armadillo-") as folder:
        fanout, late_ms = SampleFanout(), list[float]()
        history = History(
            ValueSettings(history_dir=folder),
            fanout,
            devices=devices(series_count // PROPERTIES),
            models=Informer(DEVICE_MODELS),
            clock=time.time,
        )
        async with history:
            tasks = [asyncio.create_task(history.run()), asyncio.create_task(lateness(late_ms))]
            begun_s, cpu_s = time.perf_counter(), time.process_time()
            sent = await feed(fanout, series_count, rate, seconds)
            took_s, used_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            found = 0
            async for page in history.read("default/d-0", "p0"):
                found += len(page)
            if found != sent // series_count:
                raise RuntimeError(f"{found} values of a property, not {sent // series_count}")
        used_bytes = metrics.history_bytes._value.get()
    late_ms.sort()
    name = f"history.{series_count}"
    return [
        Figure(f"{name}.rate", sent / took_s, "values/s"),
        Figure(f"{name}.cpu", 100 * used_s / took_s, "% of a core"),
        Figure(f"{name}.late.p99", late_ms[int(0.99 * (len(late_ms) - 1))], "ms"),
        Figure(f"{name}.late.max", late_ms[-1], "ms"),
        Figure(f"{name}.bytes", used_bytes / sent, "bytes/value"),
    ]


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="history at rate")
    parser.add_argument("--json", action="store_true", help="one line per figure")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=200_000.0, help="values a second")
    parser.add_argument("--series", default="100,10000", help="properties, ten to a device")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for count in map(int, arguments.series.split(",")):
        figures += asyncio.run(measure(count, arguments.rate, arguments.seconds))
    publish("History at rate", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
