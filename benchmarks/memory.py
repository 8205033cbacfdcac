"""Memory of each daemon, idle and with pods, under `armadillo up` as a user starts it.

    python benchmarks/memory.py [--json] [--runtime auto|cri|process] [--pods 10] [--settle 15]

Resident memory of a daemon and its own children. What edgecore starts for others is not the agent's:
containers, containerd and its shims are a row for people and in no figure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from figures import Figure, publish, spoken, table
from processes import Process, descendants, pss_mib, rss_mib, snapshot

DAEMONS = ("kubecore", "cloudcore", "edgecore")
# What runs on it is a daemon's own; another program below a daemon is a container or its runtime.
INTERPRETER = str(Path(sys.executable).resolve())
IMAGE = "docker.io/library/busybox:latest"
LABEL = "armadillo-benchmark=memory"
# A first start makes certificates and an image; a second one is ready within 5 s.
READY_TIMEOUT_S = 300.0
PODS_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
EXIT_FAILED, EXIT_USAGE = 1, 2


class BenchmarkError(Exception):
    """The run cannot give figures; the message says why."""


class Up:
    """`armadillo up` on a state directory of its own: started, stopped, and its pods removed."""

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self.lines: deque[str] = deque(maxlen=20)
        self.kubeconfig = ""
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        self.state = Path(tempfile.mkdtemp(prefix="armadillo-"))
        command = [*_armadillo("up", self.state), "--runtime", self._runtime]
        begun_s = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we stop it in order
            text=True,
        )
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        try:
            ready.wait(READY_TIMEOUT_S)
            self.ready_s = time.monotonic() - begun_s
            if not self.kubeconfig:
                said = "\n  ".join(self.lines) or "nothing"
                raise BenchmarkError(f"armadillo up did not become ready; it said last:\n  {said}")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    def kubectl(self, *arguments: str, content: str = "") -> str:
        """Return what kubectl printed. Raises: BenchmarkError: it failed."""
        command = ["kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        done = subprocess.run(command, input=content, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _read(self, ready: threading.Event) -> None:
        # To its end: a pipe that nobody reads would stop the one who writes.
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("kubeconfig: "):
                self.kubeconfig = line.partition(": ")[2].strip()
                ready.set()
        ready.set()

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(
                f"armadillo up: still running {STOP_TIMEOUT_S:.0f} s after SIGINT", file=sys.stderr
            )
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout=1.0)
        if self.process.stdout and not self._reader.is_alive():
            self.process.stdout.close()
        # Pods outlive `up` on purpose.
        down = subprocess.run(
            [*_armadillo("down", self.state), "--purge"],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if down.returncode:
            problem = (down.stderr or down.stdout).strip()
            print(f"armadillo down: {problem}; left behind: {self.state}", file=sys.stderr)


@dataclass(frozen=True)
class Reading:
    """The processes of one moment by what they are."""

    daemons: dict[str, list[Process]]  # each with its own children, edgecore's without the broker
    broker: list[Process]
    workloads: list[Process]  # containers, containerd, shims: not the agent's

    @property
    def edgecore(self) -> list[Process]:
        """The agent with everything it needs to run."""
        return [*self.daemons["edgecore"], *self.broker]


def take_reading(up: Up) -> Reading:
    """Return who has which memory now. Raises: BenchmarkError: a daemon is not running."""
    everyone = snapshot()
    # Shims and containers leave the tree of `up`; the state directory in their command tells whose they are.
    strangers = [p for p in everyone.values() if any(str(up.state) in word for word in p.command)]
    ours = {p.pid: p for p in (*descendants(everyone, up.process.pid), *strangers)}
    for stranger in strangers:
        ours.update((child.pid, child) for child in descendants(everyone, stranger.pid))
    reading = Reading({name: [] for name in DAEMONS}, [], [])
    for process in ours.values():
        owner = _owner(everyone, process)
        if owner == "edgecore" and _is_broker(process):
            reading.broker.append(process)
        elif process.executable != INTERPRETER or _is_mapper(process):
            reading.workloads.append(process)
        elif owner:
            reading.daemons[owner].append(process)
    if missing := [name for name, processes in reading.daemons.items() if not processes]:
        raise BenchmarkError(f"not running: {', '.join(missing)}; see {up.state}/logs")
    return reading


def run_pods(up: Up, count: int) -> None:
    """Apply `count` sleeping pods and return once all are Running."""
    pods = {"apiVersion": "v1", "kind": "List", "items": [_pod(number) for number in range(count)]}
    up.kubectl("apply", "-f", "-", content=json.dumps(pods))

    def running() -> int:
        phases = up.kubectl("get", "pods", "-l", LABEL, "-o", "jsonpath={.items[*].status.phase}")
        return phases.split().count("Running")

    if not _within(PODS_TIMEOUT_S, lambda: running() == count):
        shown = up.kubectl("get", "pods", "-l", LABEL, "-o", "wide")
        raise BenchmarkError(
            f"{running()} of {count} pods run after {PODS_TIMEOUT_S:.0f} s:\n{shown}"
        )


def measure(runtime: str, pods: int, settle_s: float) -> tuple[list[Figure], str]:
    """Return the figures, and the same by process for people."""
    with Up(runtime) as up:
        time.sleep(settle_s)
        idle = take_reading(up)
        run_pods(up, pods)
        time.sleep(settle_s)
        busy = take_reading(up)
        up.kubectl("delete", "pods", "-l", LABEL, "--wait=false")
        figures = [
            Figure("memory.edgecore.idle", rss_mib(idle.edgecore), "MiB"),
            Figure(f"memory.edgecore.pods{pods}", rss_mib(busy.edgecore), "MiB"),
            Figure("memory.cloudcore.idle", rss_mib(idle.daemons["cloudcore"]), "MiB"),
            Figure("memory.kubecore.idle", rss_mib(idle.daemons["kubecore"]), "MiB"),
            Figure("up.ready", up.ready_s, "s"),
        ]
        if idle.broker:
            figures.append(Figure("memory.edgecore.broker", rss_mib(idle.broker), "MiB"))
        return figures, _details(idle, busy, pods)


def main() -> int:
    """Return the exit status: 0, 1 if there are no figures, 2 if something is missing here."""
    parser = argparse.ArgumentParser(description="memory of each daemon, idle and with pods")
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--runtime", choices=("auto", "cri", "process"), default="auto")
    parser.add_argument("--pods", type=int, default=10, help="how many pods (default: 10)")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds before each reading")
    arguments = parser.parse_args()
    if not shutil.which("kubectl"):
        print("memory: kubectl is not installed", file=sys.stderr)
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_from_outside)
    try:
        figures, details = measure(arguments.runtime, arguments.pods, arguments.settle)
    except BenchmarkError as exc:
        print(f"memory: {exc}", file=sys.stderr)
        return EXIT_FAILED
    publish("Memory under `armadillo up`", figures, as_json=arguments.json, notes=details)
    return 0


def _details(idle: Reading, busy: Reading, pods: int) -> str:
    rows = [_row(name, idle.daemons[name], busy.daemons[name]) for name in DAEMONS]
    rows.append(_row("edgecore's broker", idle.broker, busy.broker))
    rows.append(_row("containers and their runtime", idle.workloads, busy.workloads))
    header = ("MiB", "processes", "RSS idle", "PSS idle", f"RSS {pods} pods", f"PSS {pods} pods")
    return table(header, rows)


def _row(name: str, idle: list[Process], busy: list[Process]) -> tuple[str, ...]:
    sizes = (rss_mib(idle), pss_mib(idle), rss_mib(busy), pss_mib(busy))
    return (name, f"{len(idle)}→{len(busy)}", *map(spoken, sizes))


def _owner(everyone: dict[int, Process], process: Process | None) -> str:
    """Return which daemon `process` is or was started by, or nothing."""
    while process is not None:
        package = process.module.partition(".")[0]
        if package in DAEMONS:
            return package
        process = everyone.get(process.parent)
    return ""


def _is_mapper(process: Process) -> bool:
    """Tell a driver of devices, which is a process of its own and runs where there are such devices."""
    return "mappers" in process.command


def _is_broker(process: Process) -> bool:
    return any("broker" in word or "mosquitto" in word for word in process.command)


def _pod(number: int) -> dict[str, object]:
    key, _, value = LABEL.partition("=")
    container = {
        "name": "sleep",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "sleep 3600"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"memory-{number}", "namespace": "default", "labels": {key: value}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def _within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.5)
    return True


def end_from_outside(*_: object) -> None:
    """End from outside, once: what was started is being stopped then, and that must not be cut short."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(EXIT_FAILED)


def _armadillo(command: str, state: Path) -> list[str]:
    return [sys.executable, "-m", "armadillo", command, "--state", str(state)]


if __name__ == "__main__":
    sys.exit(main())
