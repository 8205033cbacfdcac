"""Pods under `armadillo up`: from `kubectl apply` to Running, and what thirty idle ones cost the agent.

    python benchmarks/pods.py [--json] [--runtime auto|cri|process] [--starts 30] [--burst 30] [--idle 30]

A start counts from the moment kubectl is called until a watch says Running, so kubectl's own start is in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Self

import streams
from figures import Figure, publish
from memory import (
    EXIT_FAILED,
    EXIT_USAGE,
    IMAGE,
    BenchmarkError,
    Up,
    end_from_outside,
    take_reading,
)
from processes import Process, cpu_s, rss_mib

LABEL = "armadillo-benchmark=pods"
START_TIMEOUT_S = 60.0
GONE_TIMEOUT_S = 120.0
EXECS, LOG_SECONDS = 50, 10.0


class Phases:
    """When each pod was first seen in each phase, by a watch."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self._seen: dict[tuple[str, str], float] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        words = '{.metadata.name} {.status.phase}{"\\n"}'
        command = ["kubectl", "--kubeconfig", self._up.kubeconfig, "get", "pods", "-l", LABEL]
        self._kubectl = subprocess.Popen(
            [*command, "--watch", "--output", f"jsonpath={words}"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._kubectl.terminate()
        self._kubectl.wait()
        self._reader.join()
        assert self._kubectl.stdout
        self._kubectl.stdout.close()

    def wait(self, names: list[str], phase: str) -> float:
        """Return when the last of `names` was seen in `phase`. Raises: BenchmarkError: not in time."""
        with self._changed:
            there = self._changed.wait_for(
                lambda: all((name, phase) in self._seen for name in names), START_TIMEOUT_S
            )
            if not there:
                missing = [name for name in names if (name, phase) not in self._seen]
                raise BenchmarkError(f"not {phase} in {START_TIMEOUT_S:.0f} s: {missing}")
            return max(self._seen[name, phase] for name in names)

    def _read(self) -> None:
        assert self._kubectl.stdout
        for line in self._kubectl.stdout:
            name, _, phase = line.strip().partition(" ")
            with self._changed:
                self._seen.setdefault((name, phase), time.monotonic())
                self._changed.notify_all()


def measure(runtime: str, starts: int, burst: int, idle_s: float) -> list[Figure]:
    """Return all figures of pods."""
    with Up(runtime) as up:
        with Phases(up) as phases:
            start_pods(up, phases, ["warm-up"])  # its image is unpacked, its network made
            one_by_one = sorted(
                start_pods(up, phases, [f"single-{number}"], leave=False)
                for number in range(starts)
            )
            remove_pods(up)
            together_s = start_pods(up, phases, [f"burst-{number}" for number in range(burst)])
        busy, memory_mib = idle(up, idle_s)
        figures = [
            Figure("pods.start.p50", statistics.median(one_by_one), "s"),
            Figure("pods.start.p99", quantile(one_by_one, 0.99), "s"),
            Figure(f"pods.start.burst{burst}", together_s, "s"),
            Figure(f"pods.idle{burst}.cpu", busy, "percent of a core"),
            Figure(f"pods.idle{burst}.rss", memory_mib, "MiB"),
        ]
        remove_pods(up)
        if runtime_of(up) == "cri":  # plain processes have no streams
            figures += streams.measure(up, EXECS, LOG_SECONDS)
        return figures


def runtime_of(up: Up) -> str:
    """Return `process`, or `cri` for every other runtime that the node names."""
    path = "jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}"
    return "process" if up.kubectl("get", "nodes", "-o", path).startswith("process:") else "cri"


def start_pods(up: Up, phases: Phases, names: list[str], *, leave: bool = True) -> float:
    """Return the seconds from `kubectl apply` until all of `names` run."""
    items = {"apiVersion": "v1", "kind": "List", "items": [_pod(name) for name in names]}
    begun_s = time.monotonic()
    up.kubectl("apply", "-f", "-", content=json.dumps(items))
    took_s = phases.wait(names, "Running") - begun_s
    if not leave:
        up.kubectl("delete", "pod", *names, "--wait=true")
    return took_s


def remove_pods(up: Up) -> None:
    """Delete all pods of this benchmark and wait until they are gone."""
    timeout = f"--timeout={GONE_TIMEOUT_S:.0f}s"
    up.kubectl("delete", "pods", "-l", LABEL, "--wait=true", timeout)


def idle(up: Up, seconds: float) -> tuple[float, float]:
    """Return edgecore's CPU in percent of a core and its memory in MiB while nothing happens."""
    time.sleep(min(seconds, 10.0))  # what the start left to do is not idling
    before, begun_s = take_reading(up).edgecore, time.monotonic()
    used_s = _cpu(before)
    time.sleep(seconds)
    after = take_reading(up).edgecore
    passed_s = time.monotonic() - begun_s
    return 100 * (_cpu(after) - used_s) / passed_s, rss_mib(after)


def quantile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def main() -> int:
    """Return the exit status: 0, 1 if there are no figures, 2 if something is missing here."""
    parser = argparse.ArgumentParser(description="starts of pods, and what idle ones cost")
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--runtime", choices=("auto", "cri", "process"), default="auto")
    parser.add_argument("--starts", type=int, default=30, help="pods started one at a time")
    parser.add_argument("--burst", type=int, default=30, help="pods started at once")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds to watch idle pods")
    arguments = parser.parse_args()
    if not shutil.which("kubectl"):
        print("pods: kubectl is not installed", file=sys.stderr)
        return EXIT_USAGE
    if min(arguments.starts, arguments.burst) < 1 or arguments.idle <= 0:
        print("pods: --starts, --burst and --idle must be more than 0", file=sys.stderr)
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_from_outside)
    try:
        figures = measure(arguments.runtime, arguments.starts, arguments.burst, arguments.idle)
    except BenchmarkError as exc:
        print(f"pods: {exc}", file=sys.stderr)
        return EXIT_FAILED
    publish("Pods under `armadillo up`", figures, as_json=arguments.json)
    return 0


def _cpu(processes: list[Process]) -> float:
    return sum(cpu_s(process.pid) for process in processes)


def _pod(name: str) -> dict[str, object]:
    key, _, value = LABEL.partition("=")
    container = {
        "name": "sleep",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        # Ends at SIGTERM: a shell as process 1 would wait for its sleep.
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {key: value}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


if __name__ == "__main__":
    sys.exit(main())
