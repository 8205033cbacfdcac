"""Devices at rate: from the broker to `Device.status`, as fast as it goes, on real processes.

    python benchmarks/devices.py [--json] [--seconds 60] [--devices 10000] [--only burst,rate,desired,many] [--forms single,compact,dmi]

kubecore, cloudcore and edgecore as processes on loopback, mosquitto as broker, everything with its defaults. The
publishers are processes of their own (`devices_load.py`), on the same cores.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devices_world import World
from figures import Figure, publish

EXIT_USAGE = 2
PARTS = ("burst", "rate", "desired", "many")
DEVICES, PROPERTIES, BURST = 10, 10, 3000
PROBES = 200
# One value to an MQTT message, many to one, columns over DMI's stream.
FORMS = {
    "single": "devices.rate.mqtt",
    "compact": "devices.rate.compact",
    "dmi": "devices.rate.dmi",
}


def burst(world: World) -> list[Figure]:
    """3,000 reports over 100 properties: seconds from the last one to all newest in the API, and API writes."""
    world.put_devices("burst", DEVICES, PROPERTIES)
    world.settle("burst", DEVICES, PROPERTIES)
    before, mirrored = world.device_writes(), world.mirror_writes()
    sent = world.load("single", prefix="burst", count=BURST, devices=DEVICES, props=PROPERTIES)
    seconds = world.wait_newest("burst", sent["newest"], since_s=sent["ended_s"])
    world.quiet()
    writes = world.device_writes() - before
    return [
        Figure("devices.burst.seconds", seconds, "s"),
        Figure("devices.burst.writes", writes, "writes"),
        Figure("devices.burst.mirrored", world.mirror_writes() - mirrored, "writes"),
    ]


def rate(world: World, seconds: float, forms: Sequence[str]) -> tuple[list[Figure], list[str]]:
    """Sustained values/s, each way that values come in, and what edgecore's memory does meanwhile."""
    figures, notes = [], []
    for form in forms:
        prefix = f"rate-{form}"
        world.put_devices(prefix, DEVICES, PROPERTIES)
        world.settle(prefix, DEVICES, PROPERTIES)
        with world.watching() as watch:
            sent = world.load(
                form, prefix=prefix, seconds=seconds, devices=DEVICES, props=PROPERTIES
            )
            lag_s = world.wait_newest(prefix, sent["newest"], since_s=sent["ended_s"])
        took_s = sent["ended_s"] - sent["begun_s"] + lag_s
        name = FORMS[form]
        figures.append(Figure(name, sent["count"] / took_s, "values/s"))
        memory = (
            f"edgecore {watch.before_mib:.0f} MiB before, {watch.most_mib:.0f} MiB at most, "
            f"{world.edge_rss_mib():.0f} MiB after, {watch.cpu_s / sent['count'] * 1e6:.2f} µs of CPU a value"
        )
        notes.append(
            f"{name}: {sent['count']:,} values in {took_s:.1f} s, all newest right {lag_s:.1f} s after the last; "
            f"{memory}; publishers' pace {sent['count'] / (sent['ended_s'] - sent['begun_s']):,.0f}/s"
        )
    return figures, notes


def desired(world: World) -> list[Figure]:
    """From the PATCH of a Device to the MQTT message at the device."""
    world.put_devices("desired", 1, 1)
    world.settle("desired", 1, 1)
    delays_ms = sorted(world.desired_delays_ms("desired-0", PROBES))
    return [
        Figure(f"devices.desired.{label}", delays_ms[int(share * (len(delays_ms) - 1))], "ms")
        for label, share in (("p50", 0.5), ("p99", 0.99))
    ]


def many(world: World, count: int) -> tuple[list[Figure], str]:
    """Many devices on one node: how long an agent that restarts takes until each has answered, and its memory then."""
    world.put_devices("many", count, 2)
    world.settle("many", count, 2, timeout_s=600.0)
    started_s, memory_mib = world.restart_edge("many", count)
    return [
        Figure("devices.many.start", started_s, "s"),
        Figure("devices.many.rss", memory_mib, "MiB"),
    ], (
        f"devices.many: each of {count:,} devices has answered; cloudcore {world.rss_mib('cloudcore'):.0f} MiB, "
        f"kubecore {world.rss_mib('kubecore'):.0f} MiB"
    )


def main() -> int:
    """Return the exit status: 0, or 2 if something that is needed is not installed."""
    parser = argparse.ArgumentParser(description="devices at rate")
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each sustained rate")
    parser.add_argument("--devices", type=int, default=10_000, help="on one node")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--forms", default=",".join(FORMS), help="of the sustained rate")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"--only: {', '.join(unknown)} is none of {', '.join(PARTS)}")
    if unknown := sorted(set(arguments.forms.split(",")) - set(FORMS)):
        parser.error(f"--forms: {', '.join(unknown)} is none of {', '.join(FORMS)}")
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/bin") is None:
        print("devices: mosquitto is not installed", file=sys.stderr)
        return EXIT_USAGE
    figures: list[Figure] = []
    notes: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="armadillo-") as folder,
        World(Path(folder)) as world,
    ):
        if "desired" in chosen:
            figures += desired(world)
        if "burst" in chosen:
            figures += burst(world)
        if "rate" in chosen:
            found, said = rate(world, arguments.seconds, arguments.forms.split(","))
            figures, notes = figures + found, notes + said
        if "many" in chosen:
            found, line = many(world, arguments.devices)
            figures, notes = figures + found, [*notes, line]
    publish("Devices at rate", figures, as_json=arguments.json, notes="\n".join(notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
